{{- define "soma-memory.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end -}}

{{- define "soma-memory.labels" -}}
app.kubernetes.io/name: soma-memory
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
