package proxy

import (
	"encoding/json"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

// page is what the admin endpoint answers.
func (r *rig) page(path string) string {
	rec := httptest.NewRecorder()
	r.srv.Admin(nil).ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	return rec.Body.String()
}

func TestWhatIsKnownOfEndpointsIsTold(t *testing.T) {
	t.Parallel()
	bad, good := newOrigin(t, answering(503, "bad")), newOrigin(t, answering(200, "good"))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {bad.address, good.address}})
	r.snapshot.Services[host].Traffic = mesh.TrafficPolicy{
		Balancer: mesh.RoundRobin, Outlier: &mesh.OutlierDetection{Consecutive5xx: 3, MaxEjectionPercent: 50, BaseEjection: time.Hour, MaxEjection: time.Hour},
	}
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	name := mesh.HostPort(host, 80)
	require.Contains(t, r.page("/metrics"), `meshtest_sidecar_outlier_detection_ejections_enforced_total{type="consecutive_5xx"} 0`+"\n", "from the beginning, so that an increase shows")
	require.Contains(t, r.page("/stats"), `meshtest_sidecar_membership_healthy{destination="`+name+`"} 2`+"\n")
	c := call(t, at)
	for range 10 {
		c.get("/")
	}
	for _, want := range []string{
		`meshtest_sidecar_outlier_detection_ejections_enforced_total{type="consecutive_5xx"} 1`,
		`meshtest_sidecar_outlier_detection_ejections_enforced_total{type="consecutive_gateway_failure"} 0`,
		`meshtest_sidecar_outlier_detection_ejections_active{destination="` + name + `"} 1`,
		`meshtest_sidecar_membership_total{destination="` + name + `"} 2`,
		`meshtest_sidecar_membership_healthy{destination="` + name + `"} 1`,
		`meshtest_sidecar_upstream_cx_active{destination="` + name + `"} 2`,
		`meshtest_sidecar_upstream_rq_pending_overflow_total{destination="` + name + `"} 0`,
	} {
		require.Contains(t, r.page("/stats"), want+"\n")
	}
	var told Clusters
	require.NoError(t, json.Unmarshal([]byte(r.page("/clusters")), &told))
	require.Len(t, told.Health, 1)
	require.Equal(t, 1, told.Health[0].Ejected)
	require.Equal(t, 1, told.Health[0].Healthy)
	require.Equal(t, name, told.Destinations[0].Name)
}

// A destination that is gone is told of for as long as it has a request.
func TestDestinationsThatAreGoneAreForgotten(t *testing.T) {
	t.Parallel()
	came, goOn := make(chan struct{}), make(chan struct{})
	slow := newOrigin(t, func(k *talk) {
		for {
			if req, _ := k.request(); req == nil {
				return
			}
			came <- struct{}{}
			<-goOn
			k.say(answer(200, "done"))
		}
	})
	stays := newOrigin(t, answering(200, "ok"))
	r := newRig(t, nil)
	toSlow := r.outbound(r.service("slow", mesh.HTTP, map[string][]string{"v1": {slow.address}}), mesh.HTTP)
	toStays := r.outbound(r.service("stays", mesh.HTTP, map[string][]string{"v1": {stays.address}}), mesh.HTTP)
	r.apply()
	call(t, toStays).get("/")
	c := call(t, toSlow)
	c.say("GET / HTTP/1.1\r\nHost: slow\r\n\r\n")
	<-came

	host := mesh.FQDN("slow", mesh.DefaultNamespace)
	name := mesh.HostPort(host, 80)
	next := r.snapshot.Clone()
	delete(next.Services, host)
	delete(next.Endpoints, name)
	require.NoError(t, r.srv.Replace(next, mesh.Generation{Epoch: 1, Counter: 2}))
	active := `meshtest_sidecar_upstream_cx_active{destination="` + name + `"}`
	require.Contains(t, r.page("/stats"), active+" 1\n", "its request is on its way")
	goOn <- struct{}{}
	_, body := c.reply("GET")
	require.Equal(t, "done", body)
	require.Eventually(t, func() bool { return !strings.Contains(r.page("/stats"), name) }, patience, time.Millisecond, "it is told of for ever")
	require.Contains(t, r.page("/stats"), `upstream_cx_active{destination="`+mesh.HostPort(mesh.FQDN("stays", mesh.DefaultNamespace), 80)+`"} 1`+"\n")

	require.NoError(t, r.srv.Replace(r.snapshot.Clone(), mesh.Generation{Epoch: 1, Counter: 3}))
	c = call(t, toSlow)
	c.say("GET / HTTP/1.1\r\nHost: slow\r\n\r\n")
	<-came
	require.Contains(t, r.page("/stats"), active+" 1\n", "it has come back")
	goOn <- struct{}{}
	c.reply("GET")
}

func TestHealthChecksAreCounted(t *testing.T) {
	t.Parallel()
	good := newOrigin(t, answering(200, "good"))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {good.address, testport.Refusing(t)}})
	r.snapshot.Services[host].Traffic = mesh.TrafficPolicy{HealthCheck: &mesh.HealthCheck{
		HTTP: &mesh.HTTPCheck{Path: "/healthz"}, Interval: time.Hour, Timeout: patience, UnhealthyThreshold: 1, HealthyThreshold: 1,
	}}
	r.outbound(host, mesh.HTTP)
	r.apply()
	for _, want := range []string{ // who was never well is asked again and again
		"meshtest_sidecar_health_check_attempt_total [2-9]", "meshtest_sidecar_health_check_success_total 1", "meshtest_sidecar_health_check_failure_total [1-9]",
		`meshtest_sidecar_membership_healthy\{destination="` + regexp.QuoteMeta(mesh.HostPort(host, 80)) + `"\} 1`,
	} {
		told := regexp.MustCompile(want + "\n")
		require.Eventually(t, func() bool { return told.MatchString(r.page("/metrics")) }, patience, time.Millisecond, want)
	}
}

// What has to pass a health check first has passed it when an update is applied: nobody is told that nobody is there.
func TestUpdatesWaitForTheFirstGoodAnswer(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, flaky(2))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
	r.snapshot.Services[host].Traffic = mesh.TrafficPolicy{HealthCheck: &mesh.HealthCheck{
		HTTP: &mesh.HTTPCheck{Path: "/healthz"}, Interval: time.Hour, Timeout: patience, UnhealthyThreshold: 1, HealthyThreshold: 1,
	}}
	at := r.outbound(host, mesh.HTTP)
	r.srv.warmUp = patience
	r.apply()
	resp, _ := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
}
