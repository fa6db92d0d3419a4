{{- define "onlooker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "onlooker.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "onlooker.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "onlooker.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "onlooker.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "onlooker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "onlooker.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "onlooker.configName" -}}
{{- default (include "onlooker.fullname" .) .Values.config.name }}
{{- end }}

{{- define "onlooker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "onlooker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "onlooker.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "onlooker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "onlooker.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "onlooker.config" -}}
{{- if .Values.config.data }}
{{- toYaml .Values.config.data }}
{{- else -}}
file_format: "1.1"
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_http:
            endpoint: {{ printf "%s/v1/traces" (trimSuffix "/" .Values.otlp.endpoint) | quote }}
extensions:
  onlooker:
    {{- if .Values.contextPropagation.enabled }}
    propagation: {inject: true}
    {{- end }}
    selection:
      - action: exclude
        kubernetes:
          namespace: {{ append .Values.excludeNamespaces (include "onlooker.namespace" .) | uniq | toJson }}
      - container: "*"
{{- end }}
{{- end }}
