{{/* Labels that select the operator's pods. Fixed: a Deployment's selector cannot change. */}}
{{- define "soma.selector" -}}
app.kubernetes.io/name: soma-memory-operator
app.kubernetes.io/instance: soma-operator
{{- end }}

{{/* Labels of every object. */}}
{{- define "soma.labels" -}}
{{ include "soma.selector" . }}
app.kubernetes.io/part-of: soma-memory-operator
{{- end }}

{{/* A complete reference to an image; call it with (list .Values.image $). */}}
{{- define "soma.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1).Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The operator's ServiceAccount as a subject of bindings. */}}
{{- define "soma.subject" -}}
- kind: ServiceAccount
  name: soma-operator
  namespace: {{ .Release.Namespace }}
{{- end }}
