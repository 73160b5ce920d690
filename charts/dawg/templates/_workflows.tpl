{{- /* The Workflows and Schedules that the values ask for, as a JSON list of objects. */}}
{{- define "dawg.workflowObjects" -}}
{{- $root := . }}
{{- $namespaces := include "dawg.namespaces" . | fromJsonArray }}
{{- $namespace := .Values.workflows.namespace | default (has .Release.Namespace $namespaces | ternary .Release.Namespace (first $namespaces)) }}
{{- $texts := list }}
{{- range $file, $values := dict
  "continuous-monitoring" .Values.workflows.continuousMonitoring
  "post-deployment" .Values.workflows.postDeployment
  "pre-release-testing" .Values.workflows.preReleaseTesting
  "auto-fix" .Values.workflows.autoFix }}
{{- if $values.enabled }}
{{- $texts = append $texts (tpl ($root.Files.Get (printf "files/workflows/%s.yaml" $file)) $root) }}
{{- end }}
{{- end }}
{{- range $name, $values := .Values.schedules }}
{{- if $values.enabled }}
{{- $about := merge (dict "name" (kebabcase $name) "Template" $root.Template) $values }}
{{- $texts = append $texts (tpl ($root.Files.Get "files/schedules/schedule.yaml") $about) }}
{{- end }}
{{- end }}
{{- if .Values.workflows.continuousMonitoring.enabled }}
{{- $about := dict "name" "continuous-monitoring" "cron" (list .Values.workflows.continuousMonitoring.cron) "timezone" "UTC" "priority" "high" "workflow" "continuous-monitoring" "Template" $root.Template }}
{{- $texts = append $texts (tpl ($root.Files.Get "files/schedules/schedule.yaml") $about) }}
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
