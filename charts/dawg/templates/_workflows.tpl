{{- /* The Workflows and Schedules that the values ask for, as a JSON list of objects. */}}
{{- define "dawg.workflowObjects" -}}
{{- $root := . }}
{{- /* Values of a release from before there were any have none of these. */}}
{{- $workflows := .Values.workflows | default dict }}
{{- $namespaces := include "dawg.namespaces" . | fromJsonArray }}
{{- $namespace := $workflows.namespace | default (has .Release.Namespace $namespaces | ternary .Release.Namespace (first $namespaces)) }}
{{- $texts := list }}
{{- range $file, $values := dict
  "continuous-monitoring" $workflows.continuousMonitoring
  "post-deployment" $workflows.postDeployment
  "pre-release-testing" $workflows.preReleaseTesting
  "auto-fix" $workflows.autoFix }}
{{- if ($values).enabled }}
{{- $texts = append $texts (tpl ($root.Files.Get (printf "files/workflows/%s.yaml" $file)) $root) }}
{{- end }}
{{- end }}
{{- range $name, $values := .Values.schedules }}
{{- if $values.enabled }}
{{- $about := merge (dict "name" (kebabcase $name) "Template" $root.Template) $values }}
{{- $texts = append $texts (tpl ($root.Files.Get "files/schedules/schedule.yaml") $about) }}
{{- end }}
{{- end }}
{{- with $workflows.continuousMonitoring }}
{{- if .enabled }}
{{- $about := dict "name" "continuous-monitoring" "cron" (list .cron) "timezone" "UTC" "priority" "high" "workflow" "continuous-monitoring" "Template" $root.Template }}
{{- $texts = append $texts (tpl ($root.Files.Get "files/schedules/schedule.yaml") $about) }}
{{- end }}
{{- end }}
{{- with $workflows.postDeployment }}
{{- if and .enabled .rollback (not (($.Values.builtin).rollback).enabled) }}
{{- fail "workflows.postDeployment.rollback needs builtin.rollback.enabled, which lets agents change Deployments" }}
{{- end }}
{{- end }}
{{- with $workflows.preReleaseTesting }}
{{- if and .enabled .blockAt (empty .git) (empty .pullRequests) }}
{{- fail "workflows.preReleaseTesting.blockAt needs its git or pullRequests: only commits that these bring are analysed" }}
{{- end }}
{{- end }}
{{- $objects := list }}
{{- range $texts }}
{{- $object := fromYaml . }}
{{- if hasKey $object "Error" }}{{ fail (printf "%s in\n%s" $object.Error .) }}{{ end }}
{{- $metadata := merge $object.metadata (dict "namespace" $namespace "labels" (include "dawg.labels" $root | fromYaml)) }}
{{- $objects = append $objects (set $object "metadata" $metadata) }}
{{- end }}
{{- toJson $objects }}
{{- end }}
