{{- /* Variables from a map, sorted by name. */ -}}
{{- define "comfyherd.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* What no container of ours needs. */ -}}
{{- define "comfyherd.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* A stateless deployment that serves HTTP, with its service: name, command, port, variable of the address, settings. */ -}}
{{- define "comfyherd.face" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: comfyherd-{{ .name }}
  labels: &labels
    app.kubernetes.io/name: comfyherd
    app.kubernetes.io/component: {{ .name }}
spec:
  replicas: {{ .face.replicas }}
  selector:
    matchLabels: *labels
  template:
    metadata:
      labels: *labels
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {{ .name }}
          image: {{ .root.Values.image }}
          args: [{{ .command }}]
          env:
            - name: NATS_URL
              value: {{ .root.Values.natsUrl }}
            - name: {{ .variable }}
              value: 0.0.0.0:{{ .port }}
            - name: COMFYHERD_LOG_JSON
              value: "true"
          envFrom:
            - secretRef:
                name: {{ .face.secret }}
          ports:
            - name: http
              containerPort: {{ .port }}
          readinessProbe:
            tcpSocket:
              port: http
            periodSeconds: 5
          resources:
            requests:
              cpu: 50m
              memory: 64Mi
            limits:
              memory: 1Gi
          securityContext: {{- include "comfyherd.confined" . | nindent 12 }}
---
apiVersion: v1
kind: Service
metadata:
  name: comfyherd-{{ .name }}
  labels: &labels
    app.kubernetes.io/name: comfyherd
    app.kubernetes.io/component: {{ .name }}
spec:
  selector: *labels
  ports:
    - name: http
      port: {{ .port }}
      targetPort: http
{{- end }}
