"""The test suites of real projects, counted by their own runners and by TestRuns.

projects (what) → sources (downloaded, made into git repositories) → outside (the project's own runner in the image)
and gitserver, testruns (the same in the cluster) → comparison (equal, or what differs) → command (prints it).
"""
