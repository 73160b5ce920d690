{{/* Pod security "restricted", for every pod of the chart. */}}
{{- define "dawg.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "dawg.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What both roles' pods say the same way; the second of the list is the role's values. */}}
{{- define "dawg.podPlacement" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with index $role $field }}
{{ $field }}: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "dawg.roleEnv" -}}
- name: DAWG_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: DAWG_POD
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: DAWG_NAMESPACES
  value: {{ include "dawg.namespaces" . | fromJsonArray | join "," | quote }}
- name: DAWG_TLS_DIR
  value: /etc/dawg/tls
{{- end -}}

{{- define "dawg.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end -}}
