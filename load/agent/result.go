package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"meshtest.dev/meshtest/load"
)

// outcome is a Result with its start on the agent's clock.
type outcome struct {
	Began  time.Duration `json:"began"` // since the beginning of the conversation, in nanoseconds
	Result *load.Result  `json:"result"`
}

func writeOutcome(r *load.Result, epoch time.Time) ([]byte, error) {
	told := *r
	told.Start = time.Time{}
	told.Examples = map[load.Class]string{}
	for class, text := range r.Examples {
		told.Examples[class] = cut(text)
	}
	return json.Marshal(outcome{Began: r.Start.Sub(epoch), Result: &told})
}

// readOutcome reads a result and does not believe it unless it adds up.
func readOutcome(content []byte) (outcome, error) {
	var o outcome
	if err := json.Unmarshal(content, &o); err != nil {
		return outcome{}, fmt.Errorf("%w: %w", errFrame, err)
	}
	if o.Result == nil {
		return outcome{}, fmt.Errorf("%w: a result without content", errFrame)
	}
	if err := addsUp(o.Result); err != nil {
		return outcome{}, fmt.Errorf("the result of the load agent does not add up: %w", err)
	}
	if len(o.Result.Examples) == 0 {
		o.Result.Examples = nil
	}
	return o, nil
}

func addsUp(r *load.Result) error {
	var wrong []error
	equal := func(what string, a, b uint64) {
		if a != b {
			wrong = append(wrong, fmt.Errorf("%d %s and %d", a, what, b))
		}
	}
	within := func(what string, part, whole uint64) {
		if part > whole {
			wrong = append(wrong, fmt.Errorf("%d %s of %d", part, what, whole))
		}
	}
	equal("requests sent, completed and unanswered", r.Sent, r.Completed+r.Unanswered)
	equal("requests completed, in the histograms", r.Completed, r.OK.Count()+r.Failed.Count()+r.TimedOut.Count())
	equal("requests completed, timed", r.Completed, r.Service.Count())
	equal("requests sent, with a slip", r.Sent, r.Slip.Count())
	equal("requests unanswered, among the errors", r.Unanswered, r.Errors[load.Unanswered])
	within("requests sent", r.Sent, r.Scheduled)
	within("requests completed", r.Completed, r.Sent)
	within("requests late", r.Late, r.Sent)
	within("requests in the last place", r.Saturated, r.Sent)
	within("records lost", r.Lost, r.Sent)
	for _, d := range []time.Duration{r.End, r.Elapsed, r.OK.Max, r.Failed.Max, r.TimedOut.Max, r.Service.Max} {
		if d < 0 {
			wrong = append(wrong, fmt.Errorf("a time of %v", d))
		}
	}
	return errors.Join(wrong...)
}
