package promql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Remote answers from the HTTP API of a Prometheus, or of anything that speaks it.
type Remote struct {
	// URL is the server's, without /api/v1.
	URL string
	// Header is sent with every query.
	Header http.Header
	// TokenFile, when set, holds the bearer token that is shown to the server. It is read for every query, because such tokens are replaced before they expire. The token is in no
	// error.
	TokenFile string
	// Timeout is the longest that a query may take, there and back. DefaultTimeout when 0.
	Timeout time.Duration
	// Client sends the queries; http.DefaultClient when nil. Whatever its policy, redirects are not followed: a query would be lost on the way.
	Client *http.Client
}

var _ Querier = (*Remote)(nil)

// maxAnswer is the longest answer that is read, in bytes.
const maxAnswer = 64 << 20

// Check asks something whose answer is known, so that a wrong address or missing credentials show before a run begins.
func (r *Remote) Check(ctx context.Context) error {
	v, err := r.Instant(ctx, "vector(1)", time.Now())
	if err != nil {
		return err
	}
	if n, _ := v.One(); n != 1 {
		return fmt.Errorf("ask %s for vector(1): the answer is %v", r.address(), v)
	}
	return nil
}

// Instant implements Querier.
func (r *Remote) Instant(ctx context.Context, query string, t time.Time) (Value, error) {
	return r.ask(ctx, "query", url.Values{"query": {query}, "time": {unix(t)}})
}

// Range implements Querier.
func (r *Remote) Range(ctx context.Context, query string, start, end time.Time, step time.Duration) (Value, error) {
	if err := checkRange(start, end, step); err != nil {
		return Value{}, err
	}
	return r.ask(ctx, "query_range", url.Values{
		"query": {query}, "start": {unix(start)}, "end": {unix(end)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
}

// unix is t in seconds to the millisecond, which is what Prometheus keeps.
func unix(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

func (r *Remote) ask(ctx context.Context, endpoint string, form url.Values) (Value, error) {
	timeout := orDefault(r.Timeout, DefaultTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	form.Set("timeout", strconv.FormatFloat(timeout.Seconds(), 'f', -1, 64))
	v, err := r.post(ctx, endpoint, form)
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrTimeout) {
		err = fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	if err != nil {
		return Value{}, fmt.Errorf("ask %s for %q: %w", r.address(), form.Get("query"), err)
	}
	return v, nil
}

// address is the URL without a password.
func (r *Remote) address() string {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "the server"
	}
	return u.Redacted()
}

func (r *Remote) post(ctx context.Context, endpoint string, form url.Values) (Value, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Value{}, errors.New("its URL is not an absolute http or https address") // the parser's error would repeat a password
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("api/v1", endpoint).String(), strings.NewReader(form.Encode()))
	if err != nil {
		return Value{}, err
	}
	maps.Copy(req.Header, r.Header)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := r.authorize(req); err != nil {
		return Value{}, err
	}
	resp, err := r.client().Do(req)
	if err != nil {
		return Value{}, err
	}
	defer resp.Body.Close()
	if err := refusal(resp); err != nil {
		return Value{}, err
	}
	return decode(resp)
}

func (r *Remote) authorize(req *http.Request) error {
	if r.TokenFile == "" {
		return nil
	}
	content, err := os.ReadFile(r.TokenFile)
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return fmt.Errorf("there is no token in %s", r.TokenFile)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return nil
}

func (r *Remote) client() *http.Client {
	client := http.Client{}
	if r.Client != nil {
		client = *r.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// refusal is an error when the answer comes from something in front of the server.
func refusal(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("status %s: it wants other credentials", resp.Status)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		if to, err := resp.Location(); err == nil {
			return fmt.Errorf("status %s: it is at %s://%s%s now", resp.Status, to.Scheme, to.Host, strings.TrimSuffix(to.Path, resp.Request.URL.Path))
		}
		return fmt.Errorf("status %s", resp.Status)
	default:
		return nil
	}
}

// answer is what the API sends: https://prometheus.io/docs/prometheus/latest/querying/api/
type answer struct {
	Status    string   `json:"status"`
	ErrorType string   `json:"errorType"`
	Error     string   `json:"error"`
	Warnings  []string `json:"warnings"`
	Infos     []string `json:"infos"`
	Data      struct {
		ResultType Kind            `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

func decode(resp *http.Response) (Value, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Value{}, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return Value{}, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil || a.Status == "" {
		return Value{}, fmt.Errorf("status %s with something else than an answer of the query API", resp.Status)
	}
	if a.Status != "success" {
		return Value{}, a.err()
	}
	v, err := a.value()
	if err != nil {
		return Value{}, fmt.Errorf("read the answer: %w", err)
	}
	v.Warnings = slices.Concat(a.Warnings, a.Infos)
	return v, nil
}

func (a answer) err() error {
	switch a.ErrorType {
	case "bad_data", "execution", "bad_response":
		return fmt.Errorf("%w: %s: %s", ErrQuery, a.ErrorType, a.Error)
	case "timeout":
		return fmt.Errorf("%w: %s", ErrTimeout, a.Error)
	default:
		return fmt.Errorf("%s: %s", a.ErrorType, a.Error)
	}
}

func (a answer) value() (Value, error) {
	v := Value{Kind: a.Data.ResultType}
	switch v.Kind {
	case Scalar:
		var p wirePoint
		err := json.Unmarshal(a.Data.Result, &p)
		v.Series = []Series{{Labels: map[string]string{}, Points: []Point{Point(p)}}}
		return v, err
	case Text:
		var pair [2]any
		err := json.Unmarshal(a.Data.Result, &pair)
		v.Text, _ = pair[1].(string)
		return v, err
	case Vector, Matrix:
		var all []wireSeries
		if err := json.Unmarshal(a.Data.Result, &all); err != nil {
			return Value{}, err
		}
		v.Series = make([]Series, len(all))
		for i, s := range all {
			if s.Histogram != nil || s.Histograms != nil {
				return Value{}, fmt.Errorf("%w: %v is a native histogram, and no number", ErrQuery, s.Metric)
			}
			v.Series[i] = s.series()
		}
		return v, nil
	default:
		return Value{}, fmt.Errorf("result of type %q is not known", v.Kind)
	}
}

// wireSeries is an element of a vector, which has Value, or of a matrix, which has Values.
type wireSeries struct {
	Metric     map[string]string `json:"metric"`
	Value      *wirePoint        `json:"value"`
	Values     []wirePoint       `json:"values"`
	Histogram  json.RawMessage   `json:"histogram"`
	Histograms json.RawMessage   `json:"histograms"`
}

func (s wireSeries) series() Series {
	if s.Value != nil {
		s.Values = []wirePoint{*s.Value}
	}
	out := Series{Labels: s.Metric, Points: make([]Point, len(s.Values))}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	for i, p := range s.Values {
		out.Points[i] = Point(p)
	}
	return out
}

// wirePoint is [seconds, "value"].
type wirePoint Point

func (p *wirePoint) UnmarshalJSON(data []byte) error {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	var seconds float64
	if err := json.Unmarshal(pair[0], &seconds); err != nil {
		return fmt.Errorf("time of a point: %w", err)
	}
	var text string
	if err := json.Unmarshal(pair[1], &text); err != nil {
		return fmt.Errorf("value of a point: %w", err)
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("value of a point: %w", err)
	}
	*p = wirePoint(point(int64(seconds*1000+0.5), value))
	return nil
}
