{{- define "embedding-operator.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 41 characters. The names of objects add up to eleven characters, which makes 52, and Kubernetes puts the name of a
StatefulSet with eleven more characters into a label of its pods, which can have 63. A longer name ends with its hash, so that two
releases with long names that begin alike have different names. */}}
{{- define "embedding-operator.fullname" -}}
{{- $name := include "embedding-operator.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- $full = .Values.fullnameOverride | default $full -}}
{{- if gt (len $full) 41 -}}
{{ $full | trunc 32 | trimAll "-" }}-{{ $full | sha256sum | trunc 8 }}
{{- else -}}
{{ $full }}
{{- end -}}
{{- end }}

{{- define "embedding-operator.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "embedding-operator.fullname" .) "default") }}
{{- end }}

{{/* The labels of all components of the release. They must never change, because selectors are immutable. */}}
{{- define "embedding-operator.instanceLabels" -}}
app.kubernetes.io/name: {{ include "embedding-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The labels of one component. Call it with (list . "component"). */}}
{{- define "embedding-operator.selectorLabels" -}}
{{ include "embedding-operator.instanceLabels" (first .) }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* The labels of every object. Call it with (list . "component"). */}}
{{- define "embedding-operator.labels" -}}
{{- $context := first . -}}
{{- $ours := include "embedding-operator.selectorLabels" . | fromYaml -}}
{{- $_ := set $ours "app.kubernetes.io/version" $context.Chart.AppVersion -}}
{{- $_ := set $ours "app.kubernetes.io/managed-by" $context.Release.Service -}}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" $context.Chart.Name ($context.Chart.Version | replace "+" "_")) -}}
{{ merge $ours ($context.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/* The labels of a pod. They contain no version, so that a new version of the chart alone restarts no pod. Call it with
(list . "component"). */}}
{{- define "embedding-operator.podLabels" -}}
{{- $values := (first .).Values -}}
{{ merge (include "embedding-operator.selectorLabels" . | fromYaml) ($values.podLabels | default dict) ($values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/* The name of an image. A digest takes precedence over the tag. Call it with (dict "image" … "tag" the default tag). */}}
{{- define "embedding-operator.image" -}}
{{- with .image.digest -}}
{{ $.image.repository }}@{{ . }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end -}}
{{- end }}

{{/* A number in plain notation. Helm reads every number as a float, and would print 2000000 as 2e+06. */}}
{{- define "embedding-operator.plain" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* The names of the Secrets with the database's URL and with the API key of a provider, which is empty if there is no key. Call the
latter with (list . "gemini"), the group of values. */}}
{{- define "embedding-operator.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-database" (include "embedding-operator.fullname" .)) }}
{{- end }}

{{- define "embedding-operator.providerSecret" -}}
{{- $group := last . -}}
{{- $values := get (first .).Values $group -}}
{{- if $values.existingSecret -}}
{{ $values.existingSecret }}
{{- else if $values.apiKey -}}
{{ include "embedding-operator.fullname" (first .) }}-{{ $group }}
{{- end -}}
{{- end }}

{{/* The variables of the API keys, by their group of values. */}}
{{- define "embedding-operator.providerKeys" -}}
{gemini: GEMINI_API_KEY, openai: OPENAI_API_KEY}
{{- end }}

{{- /* The declaration of the keys that sources name, as JSON: see operator/embedding_operator/api_keys.py. A limit of 0 is none. */ -}}
{{- define "embedding-operator.apiKeys" -}}
{{- $declared := list }}
{{- range . }}
  {{- $item := dict "secretName" .secretName "key" .key "endpoints" .endpoints "file" (printf "/etc/embedding-operator/api-keys/%s/%s" .secretName .key) }}
  {{- $given := . }}
  {{- range $name := list "requestsPerMinute" "textsPerMinute" "tokensPerMinute" }}
    {{- with get $given $name }}{{ $_ := set $item $name (int64 .) }}{{ end }}
  {{- end }}
  {{- $declared = append $declared $item }}
{{- end }}
{{- toJson $declared }}
{{- end }}

{{- /* A mapping without the keys whose value is null. Helm removes such a key only where values.yaml has it too. */ -}}
{{- define "embedding-operator.withoutNulls" -}}
{{- $kept := dict }}
{{- range $key, $value := . }}
  {{- if not (kindIs "invalid" $value) }}{{ $_ := set $kept $key $value }}{{ end }}
{{- end }}
{{- toYaml $kept }}
{{- end }}

{{- define "embedding-operator.resources" -}}
{{- $kept := dict }}
{{- range $kind, $given := . }}
  {{- $_ := set $kept $kind (kindIs "map" $given | ternary (include "embedding-operator.withoutNulls" $given | fromYaml) $given) }}
{{- end }}
{{- toYaml $kept }}
{{- end }}
