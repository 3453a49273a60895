{{/* The settings that the operator's pod and the pod of `helm test` share, so that the check runs under the same conditions as the
operator. The pods of workers have the same, except for the service account and its token: they never ask the API server. Those of
`serve` have an account of their own, and no database. */}}

{{- define "embedding-operator.podSettings" -}}
{{- if .isWorker -}}
automountServiceAccountToken: false
{{- else -}}
serviceAccountName: {{ (eq (toString .isServe) "true") | ternary (printf "%s-serve" (include "embedding-operator.fullname" .)) (include "embedding-operator.serviceAccountName" .) | quote }}
automountServiceAccountToken: true
{{- end }}
enableServiceLinks: false # the operator needs no variables for the Services of the namespace
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.initContainers }}
initContainers: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- if not .isServe }}
  - name: database
    secret:
      secretName: {{ include "embedding-operator.databaseSecret" . | quote }}
      items:
        - {key: {{ empty .Values.database.existingSecret | ternary "DATABASE_URL" .Values.database.existingSecretKey | quote }}, path: DATABASE_URL}
  {{- else if .Values.serve.existingSecret }}
  - name: serve-token
    secret:
      secretName: {{ .Values.serve.existingSecret | quote }}
      items:
        - {key: {{ .Values.serve.existingSecretKey | quote }}, path: TOKEN}
  {{- end }}
  {{- range $group, $variable := include "embedding-operator.providerKeys" . | fromYaml }}
  {{- with include "embedding-operator.providerSecret" (list $ $group) }}
  {{- $values := get $.Values $group }}
  - name: {{ $group }}
    secret:
      secretName: {{ . | quote }}
      items:
        - {key: {{ empty $values.existingSecret | ternary $variable $values.existingSecretKey | quote }}, path: {{ $variable }}}
  {{- end }}
  {{- end }}
  {{- with .Values.apiKeys }}
  - name: api-keys
    projected:
      sources:
        {{- range . }}
        - secret:
            name: {{ .secretName | quote }}
            optional: true # the operator says which sources wait for it
            items:
              - {key: {{ .key | quote }}, path: {{ printf "%s/%s" .secretName .key | quote }}}
        {{- end }}
  {{- end }}
  {{- with .Values.privateCA }}
  {{- if or .configMap .secret }}
  - name: private-ca
    {{- if .configMap }}
    configMap:
      name: {{ .configMap | quote }}
    {{- else }}
    secret:
      secretName: {{ .secret | quote }}
    {{- end }}
      items:
        - {key: {{ .key | quote }}, path: ca.crt}
  {{- end }}
  {{- end }}
  {{- if include "embedding-operator.createsWorkers" . }}
  - name: workers
    configMap:
      name: {{ printf "%s-workers" (include "embedding-operator.fullname" .) | quote }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Secrets are mounted as directories, without subPath, and never set as variables. Otherwise a running pod would not see a rotated
Secret. */}}
{{- define "embedding-operator.container" -}}
image: {{ include "embedding-operator.image" (dict "image" .Values.image "tag" .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy | quote }}
terminationMessagePolicy: FallbackToLogsOnError # so `kubectl describe pod` shows the last sentence of the log
{{- with .Values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources: {{- include "embedding-operator.resources" . | nindent 2 }}
{{- end }}
env:
  {{- if .isServe }}
  - {name: EMBEDDING_SERVE_TEXTS_PER_MINUTE, value: {{ include "embedding-operator.plain" .Values.serve.textsPerMinute | quote }}}
  - {name: EMBEDDING_SERVE_CACHED_VECTORS, value: {{ include "embedding-operator.plain" .Values.serve.cachedVectors | quote }}}
  {{- if .Values.serve.existingSecret }}
  - {name: EMBEDDING_SERVE_TOKEN_FILE, value: /etc/embedding-operator/serve/TOKEN}
  {{- end }}
  {{- else }}
  - {name: DATABASE_URL_FILE, value: /etc/embedding-operator/database/DATABASE_URL}
  {{- end }}
  - name: EMBEDDING_POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- range $group, $variable := include "embedding-operator.providerKeys" . | fromYaml }}
  {{- if include "embedding-operator.providerSecret" (list $ $group) }}
  - {name: {{ $variable }}_FILE, value: /etc/embedding-operator/{{ $group }}/{{ $variable }}}
  {{- end }}
  {{- range $name := list "requestsPerMinute" "textsPerMinute" "tokensPerMinute" }}
  {{- with get (get $.Values $group) $name }}
  - name: EMBEDDING_{{ upper $group }}_{{ $name | snakecase | upper }}
    value: {{ include "embedding-operator.plain" . | quote }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- with .Values.gemini.endpoint }}
  - name: EMBEDDING_GEMINI_ENDPOINT
    value: {{ . | quote }}
  {{- end }}
  {{- with .Values.simulated }}
  {{- if .allowed }}
  - {name: EMBEDDING_SIMULATED_ALLOWED, value: "true"}
  {{- end }}
  {{- with .latencyMilliseconds }}
  - name: EMBEDDING_SIMULATED_LATENCY_MS
    value: {{ include "embedding-operator.plain" . | quote }}
  {{- end }}
  {{- with .failureRate }}
  - name: EMBEDDING_SIMULATED_FAILURE_RATE
    value: {{ include "embedding-operator.plain" . | quote }}
  {{- end }}
  {{- with .refusedText }}
  - name: EMBEDDING_SIMULATED_REFUSED_TEXT
    value: {{ . | quote }}
  {{- end }}
  {{- end }}
  {{- with .Values.apiKeys }}
  - name: EMBEDDING_API_KEYS
    value: {{ include "embedding-operator.apiKeys" . | quote }}
  {{- end }}
  {{- range $name, $value := (eq (toString .isServe) "true") | ternary (pick .Values.settings "logFormat" "logLevel") .Values.settings }}
  - name: EMBEDDING_{{ $name | snakecase | upper }}
    value: {{ include "embedding-operator.plain" $value | quote }}
  {{- end }}
  {{- with .Values.proxy }}
  {{- with .httpProxy }}
  - name: HTTP_PROXY
    value: {{ . | quote }}
  {{- end }}
  {{- with .httpsProxy }}
  - name: HTTPS_PROXY
    value: {{ . | quote }}
  {{- end }}
  {{- if or .httpProxy .httpsProxy }}
  - name: NO_PROXY # the kubelet inserts the API server's address
    value: {{ prepend (.noProxy | default list) "$(KUBERNETES_SERVICE_HOST)" | join "," | quote }}
  {{- end }}
  {{- end }}
  {{- if or .Values.privateCA.configMap .Values.privateCA.secret }}
  - {name: REQUESTS_CA_BUNDLE, value: /etc/embedding-operator/ca/ca.crt} # of SDKs that use requests
  - {name: SSL_CERT_FILE, value: /etc/embedding-operator/ca/ca.crt} # of SDKs that use httpx
  {{- end }}
  {{- if include "embedding-operator.createsWorkers" . }}
  - {name: EMBEDDING_BACKFILL_POD_TEMPLATE_FILE, value: /etc/embedding-operator/workers/job.yaml}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if not .isServe }}
  - {name: database, mountPath: /etc/embedding-operator/database, readOnly: true}
  {{- else if .Values.serve.existingSecret }}
  - {name: serve-token, mountPath: /etc/embedding-operator/serve, readOnly: true}
  {{- end }}
  {{- range $group, $variable := include "embedding-operator.providerKeys" . | fromYaml }}
  {{- if include "embedding-operator.providerSecret" (list $ $group) }}
  - {name: {{ $group }}, mountPath: /etc/embedding-operator/{{ $group }}, readOnly: true}
  {{- end }}
  {{- end }}
  {{- if .Values.apiKeys }}
  - {name: api-keys, mountPath: /etc/embedding-operator/api-keys, readOnly: true}
  {{- end }}
  {{- if or .Values.privateCA.configMap .Values.privateCA.secret }}
  - {name: private-ca, mountPath: /etc/embedding-operator/ca, readOnly: true}
  {{- end }}
  {{- if include "embedding-operator.createsWorkers" . }}
  - {name: workers, mountPath: /etc/embedding-operator/workers, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Whether the pod is one that creates the Jobs of workers, or checks the rights for it. */}}
{{- define "embedding-operator.createsWorkers" -}}
{{- if and .Values.backfill.workers.enabled (not .isWorker) (not .isServe) }}true{{ end -}}
{{- end }}
