//go:build e2e

package scenarios_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/images"
	"meshtest.dev/meshtest/internal/oci"
)

// nginxInKind: a server that knows nothing of us, Debian's nginx in an image of its own and started by its own manifest, is served through the mesh.
func nginxInKind(t *testing.T, bin string) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is not installed")
	}
	c, err := cluster.Find(t.Context(), kindCluster)
	require.NoError(t, err)
	nodes, err := c.Nodes()
	require.NoError(t, err)
	layer, err := oci.NewLayer(append(program(t, nginx),
		oci.File{Path: "/etc/nginx/nginx.conf", Data: []byte(nginxConfiguration)},
		oci.File{Path: "/usr/share/nginx/html/index.html", Data: []byte("it is nginx\n")},
		oci.File{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n")},
		oci.File{Path: "/etc/group", Data: []byte("root:x:0:\nnogroup:x:65534:\n")},
	)...)
	require.NoError(t, err)
	made, err := oci.NewImage(oci.Config{Entrypoint: []string{nginx, "-e", "/dev/stderr", "-g", "daemon off;"}}, layer)
	require.NoError(t, err)
	image, err := images.New(made, "nginx", "localhost/nginx:debian")
	require.NoError(t, err)
	require.NoError(t, images.Load(t.Context(), nodes, image))

	dir := t.TempDir()
	for name, text := range map[string]string{"web.yaml": nginxManifest, "nginx.yaml": nginxScenario} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	runInKind(t, bin, filepath.Join(dir, "nginx.yaml"))
}

// program is a binary of this machine with the libraries that it is linked to.
func program(t *testing.T, path string) []oci.File {
	out, err := exec.Command("ldd", path).Output()
	require.NoError(t, err)
	files := []oci.File{{Path: path, Source: path}}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		files = append(files, oci.File{Path: library, Source: library})
	}
	return files
}

const nginxConfiguration = `
pid /tmp/nginx.pid;
error_log /dev/stderr warn;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen 8080; root /usr/share/nginx/html; }
}
`

const nginxManifest = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web, version: v1}
    spec:
      containers:
        - name: nginx
          image: localhost/nginx:debian
          imagePullPolicy: Never
          ports: [{containerPort: 8080}]
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
          volumeMounts: [{name: tmp, mountPath: /tmp}]
      volumes: [{name: tmp, emptyDir: {}}]
`

const nginxScenario = `
apiVersion: meshtest.dev/v1
kind: Scenario
metadata: {name: nginx, description: A server that knows nothing of the mesh.}
environments: [kind]
services:
  web:
    port: 80
    versions:
      v1: {replicas: 2, run: {manifest: web.yaml}}
load:
  - {name: users, target: web, rate: 100/s, duration: 3s, path: /index.html}
expect:
  checks:
    - name: everybody is served
      successRate: {load: users, equals: 100%, statuses: [200]}
    - name: by pods that have a sidecar
      query: sum(max_over_time(istio_requests_total{reporter="destination", destination_workload="web-v1", response_code="200"}[30s]))
      condition: result == 300
`
