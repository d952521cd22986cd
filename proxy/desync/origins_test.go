package desync

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// origin is a server that says in each answer, in X-Saw and in the body, which request it has read: method, target, and X-Token.
type origin struct {
	name   string
	dial   map[mesh.Protocol]string // paths of sockets, by what is spoken there
	early  bool                     // it answers before it has read the body
	choosy map[string]bool          // names of vectors that it refuses although they are well-formed, or cannot tell
}

var protocols = []mesh.Protocol{mesh.HTTP, mesh.HTTP2}

// origins are those that are installed. They run until the test ends.
func origins(t *testing.T) []*origin {
	dir, err := os.MkdirTemp("", "desync") // a socket's path must be short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	all := []*origin{netHTTP(t, dir)}
	for _, start := range []func(*testing.T, string, string) *origin{nginx, haproxy} {
		if o := start(t, dir, filepath.Join(dir, fmt.Sprint(len(all)))); o != nil {
			all = append(all, o)
		}
	}
	return all
}

// netHTTP is Go's own server, which reads the whole body first.
func netHTTP(t *testing.T, dir string) *origin {
	path := filepath.Join(dir, "go")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	speaks := new(http.Protocols)
	speaks.SetHTTP1(true)
	speaks.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: speaks, ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		saw := message{method: r.Method, target: r.RequestURI, token: r.Header.Get("X-Token")}.saw()
		w.Header().Set("X-Saw", saw)
		_, _ = io.WriteString(w, saw)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	return &origin{name: "net/http", dial: map[mesh.Protocol]string{mesh.HTTP: path, mesh.HTTP2: path}}
}

const nginxConf = `daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	large_client_header_buffers 8 64k;
	merge_slashes off;
	server {
		listen unix:%[2]s;
		listen unix:%[3]s http2;
		default_type text/plain;
		set $saw "$request_method $request_uri [$http_x_token]";
		add_header X-Saw $saw;
		return 200 $saw;
	}
}
`

// nginx answers before it reads the body, and drops that as it comes.
func nginx(t *testing.T, dir, path string) *origin {
	o := &origin{name: "nginx", early: true, dial: map[mesh.Protocol]string{mesh.HTTP: path + ".1", mesh.HTTP2: path + ".2"}, choosy: set(
		"method/lower-case", "method/token-characters", // only capitals, - and _
		"target/asterisk", "target/absolute-options", "asterisk-options",
	)}
	return o.start(t, dir, nginxConf, "nginx", "-p", dir, "-c")
}

const haproxyConf = `global
	tune.bufsize 262144
	tune.http.maxhdr 256
defaults
	mode http
	timeout client 20s
	timeout http-keep-alive 20s
	timeout http-request 20s
# %[1]s
frontend origin
	bind unix@%[2]s
	bind unix@%[3]s proto h2
	http-request wait-for-body time 10s
	http-request return status 200 content-type text/plain hdr X-Saw "%%[method] %%[url,regsub(^http://[^/]*,)] [%%[req.hdr(x-token)]]" lf-string "%%[method] %%[url,regsub(^http://[^/]*,)] [%%[req.hdr(x-token)]]"
`

func haproxy(t *testing.T, dir, path string) *origin {
	o := &origin{name: "haproxy", dial: map[mesh.Protocol]string{mesh.HTTP: path + ".1", mesh.HTTP2: path + ".2"}, choosy: set(
		"upgrade/websocket", "upgrade/versioned-list", // it wants a key
		"target/asterisk", "target/absolute-options", "asterisk-options", // it says nothing of *
	)}
	return o.start(t, dir, haproxyConf, "haproxy", "-db", "-f")
}

func set(names ...string) map[string]bool {
	s := map[string]bool{}
	for _, name := range names {
		s[name] = true
	}
	return s
}

// start runs a program with a configuration until the test ends. Without the program there is no origin.
func (o *origin) start(t *testing.T, dir, config, program string, args ...string) *origin {
	path, err := lookPath(program)
	if err != nil {
		t.Logf("not tried against %s: %v", program, err)
		return nil
	}
	file := filepath.Join(dir, program+".conf")
	text := fmt.Sprintf(config, dir, o.dial[mesh.HTTP], o.dial[mesh.HTTP2])
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	cmd := exec.Command(path, append(args, file)...)
	said, err := os.Create(file + ".log")
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = said, said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		said.Close()
	})
	require.Eventually(t, func() bool {
		for _, at := range o.dial {
			c, err := net.Dial("unix", at)
			if err != nil {
				return false
			}
			c.Close()
		}
		return true
	}, patience, 5*time.Millisecond, "%s does not listen", program)
	return o
}

// lookPath finds a server's program, also where those of the system are.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return exec.LookPath(filepath.Join("/usr/sbin", program))
	}
	return path, nil
}
