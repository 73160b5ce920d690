{{- define "dawg.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Namespaces that are watched and equipped, as JSON. */}}
{{- define "dawg.namespaces" -}}
{{- .Values.namespaces | default (list .Release.Namespace) | toJson -}}
{{- end -}}

{{- define "dawg.labels" -}}
{{- with .Values.commonLabels }}{{ toYaml . }}{{ "\n" }}{{ end -}}
app.kubernetes.io/name: dawg
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: dawg
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What selects the pods of a role; the role is the second of the list. */}}
{{- define "dawg.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: dawg
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "dawg.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}

{{- define "dawg.tlsSecret" -}}
{{- eq .Values.tls.mode "existingSecret" | ternary .Values.tls.existingSecret (printf "%s-tls" (include "dawg.fullname" .)) -}}
{{- end -}}

{{/* What the api keeps on its own volume, which then is of one process: history, files, or nothing. */}}
{{- define "dawg.apiEmbeds" -}}
{{- with .Values.api -}}
{{- if not (or .database.secretName (hasPrefix "postgresql" .database.url)) }}history {{ end -}}
{{- if not (.files | default dict).url }}files{{ end -}}
{{- end -}}
{{- end -}}

{{/* The names by which the doors are called, as JSON. */}}
{{- define "dawg.doors" -}}
{{- $names := list -}}
{{- $root := . -}}
{{- range list "controller" "api" -}}
{{- $short := printf "%s-%s" (include "dawg.fullname" $root) . -}}
{{- $long := printf "%s.%s.svc" $short $root.Release.Namespace -}}
{{- $names = concat $names (list $short (trimSuffix ".svc" $long) $long (printf "%s.cluster.local" $long) (printf "*.%s" $long)) -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* Who may read metrics, as ingress rules. */}}
{{- define "dawg.metricsIngress" -}}
{{- with .Values.networkPolicy.metricsNamespaceLabels }}
- from:
  - namespaceSelector: {matchLabels: {{ toJson . }}}
  ports: [{port: 9090, protocol: TCP}]
{{- end }}
{{- end -}}

{{/* Binds a Role to a service account of ours: (root, namespace, role, account, its namespace). */}}
{{- define "dawg.binding" -}}
{{- $root := index . 0 -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ index . 2 }}
  namespace: {{ index . 1 }}
  labels: {{ include "dawg.labels" $root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ index . 2 }}}
subjects:
- {kind: ServiceAccount, name: {{ index . 3 }}, namespace: {{ index . 4 }}}
{{- end -}}

{{- define "dawg.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
