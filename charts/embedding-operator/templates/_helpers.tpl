{{- define "embedding-operator.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 41 characters: names made of it end in up to eleven more, and a StatefulSet's may have 52. Its pods carry its name
with eleven more in a label, which takes 63. */}}
{{- define "embedding-operator.fullname" -}}
{{- $name := include "embedding-operator.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{ .Values.fullnameOverride | default $full | trunc 41 | trimSuffix "-" }}
{{- end }}

{{- define "embedding-operator.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "embedding-operator.fullname" .) "default") }}
{{- end }}

{{/* What belongs to this release, whichever component it is. Never changed: selectors are immutable. */}}
{{- define "embedding-operator.instanceLabels" -}}
app.kubernetes.io/name: {{ include "embedding-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Call with (list . "component"). */}}
{{- define "embedding-operator.selectorLabels" -}}
{{ include "embedding-operator.instanceLabels" (first .) }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* Of every object. Call with (list . "component"). */}}
{{- define "embedding-operator.labels" -}}
{{- $context := first . -}}
{{- $ours := include "embedding-operator.selectorLabels" . | fromYaml -}}
{{- $_ := set $ours "app.kubernetes.io/version" $context.Chart.AppVersion -}}
{{- $_ := set $ours "app.kubernetes.io/managed-by" $context.Release.Service -}}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" $context.Chart.Name ($context.Chart.Version | replace "+" "_")) -}}
{{ merge $ours ($context.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/* Of a pod: without versions, so that only what changes the pod restarts it. Call with (list . "component"). */}}
{{- define "embedding-operator.podLabels" -}}
{{- $values := (first .).Values -}}
{{ merge (include "embedding-operator.selectorLabels" . | fromYaml) ($values.podLabels | default dict) ($values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/* A digest is the exact image, so it wins over the tag. Call with (dict "image" … "tag" the default one). */}}
{{- define "embedding-operator.image" -}}
{{- with .image.digest -}}
{{ $.image.repository }}@{{ . }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end -}}
{{- end }}

{{/* Helm reads every number as a float, and would print 2000000 as 2e+06. */}}
{{- define "embedding-operator.plain" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* The Secret that holds the database's URL, and the one of the key; the latter empty where there is none. */}}
{{- define "embedding-operator.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-database" (include "embedding-operator.fullname" .)) }}
{{- end }}

{{- define "embedding-operator.geminiSecret" -}}
{{- if .Values.gemini.existingSecret -}}
{{ .Values.gemini.existingSecret }}
{{- else if .Values.gemini.apiKey -}}
{{ include "embedding-operator.fullname" . }}-gemini
{{- end -}}
{{- end }}
