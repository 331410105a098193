package browser_test

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/tracing"
	"github.com/chromedp/chromedp"
)

// traceEvent is an event of the browser's trace. Its times are in microseconds.
type traceEvent struct {
	Name    string  `json:"name"`
	Phase   string  `json:"ph"`
	Process int     `json:"pid"`
	Thread  int     `json:"tid"`
	At      float64 `json:"ts"`
	Busy    float64 `json:"tdur"` // how long the thread had the processor
	Args    struct {
		Name string `json:"name"` // of a thread
	} `json:"args"`
}

// traced records what the browser does while do runs.
func (b *tab) traced(do func()) []traceEvent {
	b.t.Helper()
	var found []traceEvent // written by the goroutine that reads the browser's messages, until complete is closed
	complete := make(chan struct{})
	over := sync.OnceFunc(func() { close(complete) })
	err := chromedp.Listen(b.ctx, func(ev any) {
		switch e := ev.(type) {
		case *tracing.EventDataCollected:
			select {
			case <-complete: // of a later trace
				return
			default:
			}
			for _, raw := range e.Value {
				var one traceEvent
				_ = json.Unmarshal(raw, &one) // an event of another form is none that is looked for
				found = append(found, one)
			}
		case *tracing.EventTracingComplete:
			over()
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	start := tracing.StartParams{TraceConfig: &tracing.TraceConfig{IncludedCategories: []string{"disabled-by-default-devtools.timeline", "devtools.timeline", "loading", "blink.user_timing"}}}
	if _, err := chromedp.Call(b.ctx, tracing.Start, start); err != nil {
		b.t.Fatal(err)
	}
	do()
	if _, err := chromedp.Call(b.ctx, tracing.End, cdp.Empty{}); err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-complete:
	case <-b.ctx.Done():
		b.t.Fatal(b.ctx.Err())
	}
	return found
}

// work is how long the page's main thread had the processor, so that other programs on the machine count little.
type work struct {
	paint  time.Duration // until something to read was painted first
	task   time.Duration // the longest task: script, style, layout and paint
	script time.Duration // the longest run of script
}

// workOf is the work of the main thread of the page that was painted first in the trace, or, when none was, of all main threads.
func workOf(events []traceEvent) (w work) {
	type thread struct{ process, thread int }
	main := map[thread]bool{}
	painted, process := 0.0, 0
	for i := range events {
		switch e := &events[i]; {
		case e.Name == "thread_name" && e.Args.Name == "CrRendererMain":
			main[thread{e.Process, e.Thread}] = true
		case e.Name == "firstContentfulPaint" && process == 0:
			painted, process = e.At, e.Process
		}
	}
	for i := range events {
		e := &events[i]
		if !main[thread{e.Process, e.Thread}] || process != 0 && e.Process != process {
			continue
		}
		busy := time.Duration(e.Busy * 1000)
		switch e.Name {
		case "RunTask":
			w.task = max(w.task, busy)
			if e.At < painted {
				w.paint += busy
			}
		case "FunctionCall", "EvaluateScript", "v8.evaluateModule", "RunMicrotasks":
			w.script = max(w.script, busy)
		}
	}
	return w
}
