{{- define "voice-agent.name" -}}
{{- if contains "voice-agent" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-voice-agent" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "voice-agent.selector" -}}
app.kubernetes.io/name: voice-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "voice-agent.labels" -}}
{{ include "voice-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "voice-agent.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "voice-agent.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "voice-agent.name" .) }}
{{- end }}

{{- /* A probe; `.path` over HTTP, `.service` over gRPC. */ -}}
{{- define "voice-agent.probe" -}}
{{- if eq .values.probes.type "grpc" }}
grpc:
  port: {{ .values.probes.grpcPort }}
  service: {{ .service }}
{{- else }}
httpGet:
  host: 127.0.0.1
  port: {{ .values.metrics.port }}
  path: {{ .path }}
{{- end }}
{{- end }}
