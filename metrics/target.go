package metrics

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Defaults of a Target.
const (
	DefaultInterval = time.Second
	DefaultMaxBody  = 16 << 20
	DefaultPath     = "/metrics"
)

// A Target is one process that shows its metrics.
type Target struct {
	// Labels are given to every series of the target. They name it: no two targets may have the same.
	Labels map[string]string
	// URL is where the metrics are, http or https.
	URL string
	// Dial, when set, is the way there instead of the URL's host.
	Dial func(context.Context) (net.Conn, error)
	// Interval is from one scrape to the next. DefaultInterval when 0.
	Interval time.Duration
	// Timeout is the longest that a scrape may take. Interval when 0, and never more than that.
	Timeout time.Duration
	// MaxBody is the longest exposition that is read, in bytes, after decompression; a longer one fails the scrape.
	// DefaultMaxBody when 0.
	MaxBody int64
}

func (t Target) validate() error {
	u, err := url.Parse(t.URL)
	switch {
	case err != nil:
		return fmt.Errorf("target %v: url: %w", t.Labels, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("target %v: url %q: want an absolute http or https address", t.Labels, t.URL)
	case len(t.Labels) == 0:
		return fmt.Errorf("target %s: no labels: its series could not be told from another's", t.URL)
	case t.Interval < 0 || t.Timeout < 0 || t.MaxBody < 0:
		return fmt.Errorf("target %v: negative interval, timeout or bound", t.Labels)
	default:
		return nil
	}
}

func (t Target) withDefaults() Target {
	if t.Interval == 0 {
		t.Interval = DefaultInterval
	}
	if t.Timeout == 0 || t.Timeout > t.Interval {
		t.Timeout = t.Interval
	}
	if t.MaxBody == 0 {
		t.MaxBody = DefaultMaxBody
	}
	return t
}

// client makes an HTTP client for the target alone. It never asks a proxy and never follows the target elsewhere.
func (t Target) client() *http.Client {
	transport := &http.Transport{DisableCompression: true, MaxIdleConns: 1}
	if t.Dial != nil {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return t.Dial(ctx) }
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// accept asks for the formats that have no native histograms.
const accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=1"

// fetch gets the exposition and its content type.
func (t Target) fetch(ctx context.Context, client *http.Client) (body []byte, contentType string, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, nil)
	if err != nil {
		return nil, "", fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", "meshtest")
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("get: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("get: status %s", resp.Status)
	}
	body, err = t.read(resp)
	return body, resp.Header.Get("Content-Type"), err
}

func (t Target) read(resp *http.Response) ([]byte, error) {
	var from io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		unzip, err := gzip.NewReader(resp.Body)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		from = unzip
	}
	body, err := io.ReadAll(io.LimitReader(from, t.MaxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read: %w", err)
	case int64(len(body)) > t.MaxBody:
		return nil, errors.New("exposition is longer than the target's bound")
	default:
		return body, nil
	}
}
