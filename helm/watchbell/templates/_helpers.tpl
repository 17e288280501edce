{{- define "watchbell.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "watchbell.fullname" -}}
{{- $name := include "watchbell.name" . }}
{{- $default := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $default | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "watchbell.selectorLabels" -}}
app.kubernetes.io/name: {{ include "watchbell.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "watchbell.labels" -}}
{{ include "watchbell.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "watchbell.serviceAccountName" -}}
{{- $default := .Values.serviceAccount.create | ternary (include "watchbell.fullname" .) "default" }}
{{- .Values.serviceAccount.name | default $default }}
{{- end }}

{{- /* The config file: the values', and where the volumes are. */}}
{{- define "watchbell.config" -}}
{{- $places := dict "data_dir" "/var/lib/watchbell" "rule_files" (list "/etc/watchbell/rules/*.yaml" "/etc/watchbell/rules/*.yml") }}
{{- mergeOverwrite (deepCopy .Values.config) $places | toYaml }}
{{- end }}

{{- /* The port of an endpoint like 0.0.0.0:4317 or [::]:4317. */}}
{{- define "watchbell.port" -}}
{{- splitList ":" .endpoint | last }}
{{- end }}

{{- define "watchbell.otlpPorts" -}}
- name: otlp-grpc
  port: {{ include "watchbell.port" .Values.config.receivers.otlp.protocols.grpc }}
  targetPort: otlp-grpc
  appProtocol: grpc
- name: otlp-http
  port: {{ include "watchbell.port" .Values.config.receivers.otlp.protocols.http }}
  targetPort: otlp-http
  appProtocol: http
{{- end }}

{{- define "watchbell.apiPort" -}}
- name: api
  port: {{ include "watchbell.port" .Values.config.api }}
  targetPort: api
  appProtocol: http
{{- end }}
