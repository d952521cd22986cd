package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"meshtest.dev/meshtest/internal/version"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/rules"
	"meshtest.dev/meshtest/proxy"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/zipkin"
)

const standaloneUsage = `Alone, without a control plane, it serves what files say:

  -f PATH                 file or folder of rules: VirtualService, DestinationRule, ServiceEntry (with its endpoints), Gateway, HTTPRoute, GRPCRoute, HealthCheckPolicy, RateLimitPolicy,
                          Secret; again for more. They, and certificates that they name, are read again when they change; what is wrong is logged, and the last good ones stay in force
  --listen ADDRESS        where callers connect, HOST:PORT
  --host HOST[:PORT]      every request is for this host; without it for the only host or gateway of the rules, or else for the one that its authority names
  --gateway NAME[:PORT]   serve this gateway of the rules; NAMESPACE/NAME of another namespace than default
  --admin ADDRESS         where questions are answered, on loopback: / lists them (/ready, /metrics, /stats, /config_dump, /clusters, /logging); none without it
  --admin-token-file PATH file with the token (Authorization: Bearer TOKEN) of those who may change something there; nobody may without it
  --name NAME             of the workload, in metrics and evidence (standalone)
  --seed N                of every draw of chance (0)
  --zipkin URL            where spans are sent, http://HOST:PORT of a Zipkin collector; none without it
  --trace-share N         of the traces that begin here that are sampled, 0 to 1 (0.01)
  --access-log MODE       off, sampled or complete, to standard output (off). Requests never wait for its reader: lines that he is too slow for are dropped, with complete too, and counted as
                          meshtest_sidecar_access_log_dropped_total{reason="queue"}
  --drain DURATION        how long requests get to finish at the end (5s)
  --log-level LEVEL       debug, info, warn or error (info)
  --check                 only say what is wrong with the rules; exit code 2 when something is
`

// standalone is what the flags of a sidecar that runs alone say.
type standalone struct {
	files     []string
	listen    string
	host      string
	gateway   string
	admin     string
	tokenFile string // of the admin
	name      string
	seed      uint64
	mode      telemetry.LogMode
	drain     time.Duration
	level     slog.Level
	zipkin    string
	share     float64
	check     bool
}

func parseStandalone(args []string, stdout io.Writer) (o standalone, goOn bool, err error) {
	o.name, o.drain, o.mode = "standalone", 5*time.Second, telemetry.LogOff
	flags := flag.NewFlagSet("meshtest-sidecar", flag.ContinueOnError)
	flags.Func("f", "", func(path string) error { o.files = append(o.files, path); return nil })
	flags.StringVar(&o.listen, "listen", "", "")
	flags.StringVar(&o.host, "host", "", "")
	flags.StringVar(&o.gateway, "gateway", "", "")
	flags.StringVar(&o.admin, "admin", "", "")
	flags.StringVar(&o.tokenFile, "admin-token-file", "", "")
	flags.StringVar(&o.name, "name", o.name, "")
	flags.Uint64Var(&o.seed, "seed", 0, "")
	flags.Func("access-log", "", one(&o.mode, telemetry.ParseLogMode))
	flags.StringVar(&o.zipkin, "zipkin", "", "")
	flags.Float64Var(&o.share, "trace-share", 0.01, "")
	flags.Func("drain", "", one(&o.drain, time.ParseDuration))
	flags.Func("log-level", "", one(&o.level, parseLevel))
	flags.BoolVar(&o.check, "check", false, "")
	if goOn, err = parse(flags, args, stdout); !goOn {
		return o, false, err
	}
	switch {
	case len(o.files) == 0:
		err = errors.New("-f is missing: there are no rules to serve")
	case o.listen == "" && !o.check:
		err = errors.New("--listen is missing")
	case o.host != "" && o.gateway != "":
		err = errors.New("--host and --gateway exclude each other")
	case o.tokenFile != "" && o.admin == "":
		err = errors.New("--admin-token-file is for --admin, which is missing")
	case o.admin != "" && checkAdmin(o.admin) != nil:
		err = checkAdmin(o.admin)
	case o.drain < 0:
		err = errors.New("--drain is less than nothing; such as 5s, or 0s to end all requests at once")
	case !(o.share >= 0 && o.share <= 1): // NaN is neither
		err = errors.New("--trace-share goes from 0 to 1")
	}
	if err != nil {
		return o, false, usageError{err}
	}
	return o, true, nil
}

func parseLevel(text string) (level slog.Level, err error) {
	if level.UnmarshalText([]byte(text)) != nil {
		err = errors.New("it is debug, info, warn or error")
	}
	return level, err
}

// serveStandalone is the sidecar without a verb: it serves rules from files.
func serveStandalone(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, goOn, err := parseStandalone(args, stdout)
	if !goOn {
		return err
	}
	first, err := o.load(o.files)
	if err != nil {
		return invalidRules{err}
	}
	if o.check {
		_, err := fmt.Fprintln(stdout, "the rules are good")
		return err
	}
	log, level := newLog(stderr, o.level)
	counters := &telemetry.Counters{}
	access := telemetry.NewAccessLog(telemetry.AccessLogOptions{Mode: o.mode, Seed: o.seed, Counters: counters})
	spans, err := o.spans(counters)
	if err != nil {
		return usageError{err}
	}
	server := proxy.New(proxy.Options{
		Workload: o.workload(), Log: log, Counters: counters, AccessLog: access, Spans: spans, TraceShare: o.traceShare(), Timeouts: proxy.Timeouts{Drain: o.drainTime()},
	})
	var sites []site
	if o.admin != "" {
		admin, err := o.adminSite(server.Admin(level))
		if err != nil {
			return err
		}
		sites = append(sites, admin)
	}
	if err := server.Replace(first.snapshot, mesh.Generation{Epoch: 1, Counter: 1}); err != nil {
		for _, s := range sites {
			err = errors.Join(err, s.listener.Close())
		}
		return fmt.Errorf("serving the rules: %w", err)
	}
	log.Info("serving", "rules", first.files, "listen", o.listen, "admin", o.admin, "version", version.String())
	r := alone{standalone: o, server: server, access: access, spans: spans, counters: counters, sites: sites, log: log, memory: newMemory()}
	r.memory.note() // the rules were read
	return r.run(ctx, first, stdout)
}

// spans is where spans go; nil without a collector.
func (o standalone) spans(counters *telemetry.Counters) (*zipkin.Exporter, error) {
	if o.zipkin == "" {
		return nil, nil
	}
	return zipkin.New(zipkin.Options{URL: o.zipkin, Local: zipkin.Endpoint{Service: o.name}, Counters: counters})
}

// traceShare is the share as proxy.Options have it, where 0 means the default.
func (o standalone) traceShare() float64 {
	if o.share <= 0 {
		return -1
	}
	return o.share
}

// drainTime is the time as proxy.Timeouts have it, where 0 means the default.
func (o standalone) drainTime() time.Duration { return max(o.drain, time.Nanosecond) }

// alone is a sidecar that runs alone.
type alone struct {
	standalone
	server   *proxy.Server
	access   *telemetry.AccessLog
	spans    *zipkin.Exporter // nil: nobody is told
	counters *telemetry.Counters
	sites    []site
	log      *slog.Logger
	memory   *memory
}

// run serves until ctx ends, and returns when nothing is left.
func (r *alone) run(ctx context.Context, first *loaded, stdout io.Writer) error {
	telling, stop := context.WithCancel(context.WithoutCancel(ctx))
	serving, fail := context.WithCancelCause(ctx)
	var all, last sync.WaitGroup
	for _, s := range r.sites {
		last.Go(func() {
			if err := s.serve(telling); err != nil {
				fail(err)
			}
		})
	}
	last.Go(func() {
		if err := r.access.Run(telling, stdout); err != nil {
			r.log.Error("access log", "error", err)
		}
	})
	if r.spans != nil {
		last.Go(func() { r.spans.Run(telling) })
	}
	all.Go(func() { r.follow(serving, first) })
	all.Go(func() { r.memory.run(serving) })
	err := r.server.Run(serving)
	all.Wait()
	stop()
	last.Wait()
	if ctx.Err() == nil {
		err = errors.Join(err, context.Cause(serving))
	}
	fail(nil)
	return err
}

// invalidRules is the error of rules that cannot be served.
type invalidRules struct{ error }

// loaded is what the files said.
type loaded struct {
	snapshot *mesh.Snapshot // nil when it cannot be served
	files    []string
	named    []string // by them, and read with them: certificates and keys
	seen     string   // of all, before they were read
}

// look is what there is to be seen of the files now.
func (l *loaded) look(paths []string) string {
	return look(paths, l.files) + look(nil, l.named)
}

// name looks at a file that is named by others, and is about to be read.
func (l *loaded) name(path string) {
	if !slices.Contains(l.named, path) {
		l.named = append(l.named, path)
		l.seen += look(nil, []string{path})
	}
}

// load reads and compiles the rules; known are the files that they are expected in. Files are looked at before they are read, so that what changes meanwhile shows at the next look. With an error
// it tells which files it is about.
func (o standalone) load(known []string) (*loaded, error) {
	for {
		l := &loaded{files: known, seen: look(o.files, known)}
		docs, files, err := rules.Load(o.files)
		if !slices.Equal(files, known) {
			known = files // they have not been looked at
			continue
		}
		if err == nil {
			l.snapshot, err = o.compile(docs, rules.Beside(o.files, l.name))
		}
		return l, err
	}
}

// compile makes of documents what the sidecar serves.
func (o standalone) compile(docs []rules.Document, read func(name string) ([]byte, error)) (*mesh.Snapshot, error) {
	compiled, problems := rules.Compile(docs, mesh.DefaultNamespace, read)
	if len(problems) > 0 {
		return nil, rules.Problems(problems)
	}
	in, err := o.inbound(compiled)
	if err != nil {
		return nil, err
	}
	compiled.Snapshot.Inbound[o.name] = in
	return compiled.Snapshot.Shared(), nil
}

func (o standalone) workload() mesh.Workload {
	return mesh.Workload{Name: o.name, Namespace: mesh.DefaultNamespace, Instance: o.name, Labels: mesh.Labels{mesh.LabelApp: o.name}}
}

// inbound is what the sidecar listens on.
func (o standalone) inbound(c *rules.Compiled) (*mesh.Inbound, error) {
	in := &mesh.Inbound{
		Workload: o.workload(), Seed: o.seed, Unknown: mesh.RegistryOnly,
		UpstreamLimits: c.Policies.Limits, // it stands before services and not beside one
	}
	if o.check && o.host == "" && o.gateway == "" {
		return in, nil
	}
	host, port, err := c.Serves(o.wanted())
	switch {
	case err != nil:
		return nil, err
	case host == "":
		in.Proxy = o.listen
	default:
		in.Trusted = slices.Contains(c.Gateways, host) // strangers call there
		in.Outbound = []mesh.OutboundPort{{Bind: o.listen, Host: host, Port: port.Number, Protocol: port.Protocol}}
	}
	return in, nil
}

// wanted is what the flags say about the host that every request is for.
func (o standalone) wanted() rules.Wanted {
	w := rules.Wanted{Likely: []int{portOf(o.listen)}}
	w.Host, w.Port = cutPort(o.host)
	if o.gateway != "" {
		w.Gateway, w.Port = cutPort(o.gateway)
	}
	return w
}

func cutPort(text string) (name string, port int) {
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		return text, 0
	}
	port, _ = strconv.Atoi(number)
	return host, port
}

func portOf(address string) int {
	_, port := cutPort(address)
	return port
}
