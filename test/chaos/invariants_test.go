//go:build unix

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/color"
	"image/png"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// invariant is one promise. find lists what breaks it now; those that are final hold only when all is over.
type invariant struct {
	promise string
	final   bool
	find    func(*checker) []string
}

// invariants are all promises, checked after every step and at the end.
var invariants = []invariant{
	{"no event is lost or unreadable", false, func(c *checker) []string { return c.ledger.holes }},
	{"a job ends once, and nothing follows its end", false, (*checker).ends},
	{"an attempt is announced before it runs, and runs once", false, (*checker).announced},
	{"every double execution is a lease that ran out, or a host that could not be reached", false, func(c *checker) []string { return c.doubles.unexplained }},
	{"a picture is its job's own", false, (*checker).pictures},
	{"no run begins on a blocked pair", false, (*checker).blockedRuns},
	{"no process ends by itself", false, (*checker).deaths},
	{"what one hears was stored", false, (*checker).heard},
	{"trouble of the store is nobody's attempt", false, (*checker).storeTrouble},
	{"no wrong clock is believed", false, (*checker).wrongTimes},
	{"every published job has exactly one end", true, (*checker).unended},
	{"every dead job has its dead letter and no other job has one", true, (*checker).letters},
	{"nothing is left in flight", true, (*checker).inFlight},
	{"no key is left behind", true, (*checker).keys},
	{"no host still runs anything", true, (*checker).busyHosts},
	{"every block was lifted and told", true, (*checker).blocks},
	{"every host is well again", true, (*checker).sickHosts},
}

// checker holds what the checks look at and what they have found.
type checker struct {
	f       *fleet
	load    *load
	watch   *offers
	ears    *hearing
	story   *story
	ledger  *ledger
	runs    []execution
	doubles doubles

	pictured int      // of ledger.finished, those whose pictures were looked at
	blind    int      // checks that could not read NATS
	lacking  []string // what was last missing when all was to end
	said     map[string]bool
}

func newChecker(f *fleet, l *load, s *story) *checker {
	return &checker{f: f, load: l, story: s, watch: watchOffers(f), ears: listen(f), ledger: newLedger(), said: map[string]bool{}}
}

// check looks at everything once and reports each broken promise once. It says whether NATS could be read.
func (c *checker) check(final bool) bool {
	c.f.t.Helper()
	runs, err := c.f.executions()
	if err != nil {
		c.f.t.Errorf("read the journals: %v", err)
	}
	err = nats.ErrDisconnected
	switch {
	case final:
		err = c.ledger.readOn(c.f.nc, calmTime)
	case c.f.nc.IsConnected():
		err = c.ledger.readOn(c.f.nc, answerTime)
	}
	if err != nil {
		c.blind++
		if final {
			c.f.t.Errorf("at the end: %v", err)
		}
		return false
	}
	c.runs, c.doubles = runs, countDoubles(c.ledger, runs)
	for _, i := range invariants {
		if i.final && !final {
			continue
		}
		for _, found := range i.find(c) {
			c.say(i.promise, found)
		}
	}
	return true
}

func (c *checker) say(promise, found string) {
	c.f.t.Helper()
	if text := promise + ": " + found; !c.said[text] {
		c.said[text] = true
		c.f.t.Errorf("%s broken: %s", c.story.now(), text)
	}
}

func (c *checker) ends() []string {
	var found []string
	for key, chain := range c.ledger.chains {
		queued, attempt := 0, 0
		for i, e := range chain {
			switch {
			case e.EventKind == job.Queued:
				queued++
			case e.EventKind == job.Started && e.Attempt <= attempt:
				found = append(found, key+" repeats an attempt: "+kinds(chain))
			case e.EventKind == job.Started:
				attempt = e.Attempt
			case e.EventKind.Terminal() && i < len(chain)-1:
				found = append(found, key+" goes on after its end: "+kinds(chain))
			}
		}
		if queued > 1 {
			found = append(found, key+" is queued more than once: "+kinds(chain))
		}
	}
	return found
}

func (c *checker) announced() []string {
	var found []string
	ran := map[string]execution{}
	for _, x := range c.runs {
		started, known := c.ledger.prompts[x.prompt]
		before, again := ran[x.prompt]
		switch {
		case x.stranger:
		case !known:
			found = append(found, fmt.Sprintf("prompt %s ran on %s at %s and no started event tells of it", x.prompt, x.host, clock(x.from)))
		case again:
			found = append(found, fmt.Sprintf("prompt %s of %s/%s attempt %d ran on %s at %s and again on %s at %s", x.prompt,
				started.Tenant, started.Job, started.Attempt, before.host, clock(before.from), x.host, clock(x.from)))
		}
		ran[x.prompt] = x
	}
	return found
}

func (c *checker) unended() []string {
	var found []string
	for key, p := range c.load.snapshot() {
		if p.id != "" && p.acked && !c.ledger.ended(key) {
			found = append(found, fmt.Sprintf("%s (%s): %q", key, p.wish.sort, kinds(c.ledger.chains[key])))
		}
	}
	for key, chain := range c.ledger.chains {
		if !c.ledger.ended(key) {
			found = append(found, fmt.Sprintf("%s: %q", key, kinds(chain)))
		}
	}
	return append(found, c.unheard()...)
}

// unheard are invalid messages without an end: their chains are known by their sequence.
func (c *checker) unheard() []string {
	ends := map[uint64]bool{}
	for _, chain := range c.ledger.chains {
		for _, e := range chain {
			if e.EventKind == job.Dead && e.Job.Ours() {
				ends[e.Sequence] = true
			}
		}
	}
	var found []string
	for key, p := range c.load.snapshot() {
		for sequence := range p.colors {
			if p.id == "" && !ends[sequence] {
				found = append(found, key+": an invalid job has no dead event")
			}
		}
	}
	return found
}

func (c *checker) deaths() []string {
	var found []string
	for _, p := range c.f.all {
		if text := p.panicked(); text != "" {
			found = append(found, p.name+" panicked: "+text)
		}
		for _, end := range p.died() {
			if !c.story.excuses(p.name, end) {
				found = append(found, fmt.Sprintf("%s ended by itself at %s: %s", p.name, clock(end.at), end.how))
			}
		}
	}
	return found
}

// pictures downloads what completed since the last look and compares the colours. A job that was published twice has
// the picture of the message that began its chain.
func (c *checker) pictures() []string {
	var found []string
	known := c.load.snapshot()
	for ; c.pictured < len(c.ledger.finished); c.pictured++ {
		e := c.ledger.finished[c.pictured]
		key := string(e.Tenant) + "/" + string(e.Job)
		p := known[key]
		want := p.tried
		if acked, told := p.colors[c.ledger.chains[key][0].Sequence]; told {
			want = []int{acked} // otherwise this publish was stored and only its ack was lost
		}
		if len(e.Outputs) != 1 {
			found = append(found, fmt.Sprintf("%s completed with %d files", key, len(e.Outputs)))
			continue
		}
		got, err := c.color(e.Outputs[0])
		if err != nil && c.story.dropped(c.ledger.begun(key)) {
			continue
		}
		if err != nil && strings.HasPrefix(err.Error(), "read") {
			return found // NATS is away: looked at again with the next step
		}
		if err != nil || !slices.ContainsFunc(want, func(c int) bool { return colorOf(c) == got }) {
			found = append(found, fmt.Sprintf("%s completed with %s of colour %v, want one of %x (%v)", key, e.Outputs[0].Object, got, want, err))
		}
	}
	return found
}

func (c *checker) color(out job.Output) (color.RGBA, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	file, _, err := c.f.q.OpenOutput(ctx, out.Object)
	if err != nil {
		return color.RGBA{}, fmt.Errorf("read it: %w", err)
	}
	defer file.Close()
	var data bytes.Buffer
	if _, err := data.ReadFrom(file); err != nil {
		return color.RGBA{}, fmt.Errorf("read it: %w", err)
	}
	img, err := png.Decode(&data)
	if err != nil {
		return color.RGBA{}, err
	}
	return color.RGBAModel.Convert(img.At(0, 0)).(color.RGBA), nil
}

func colorOf(c int) color.RGBA {
	return color.RGBA{R: uint8(c >> 16), G: uint8(c >> 8), B: uint8(c), A: 255}
}

// viewLag is how much later than the block table a dispatcher may hear of a block.
const viewLag = time.Second

// blockedRuns compares when each attempt was offered with the times in which its pair was blocked for it. What was
// offered before the block may run; so may what a dispatcher offered that was frozen, or cut from NATS, since before.
func (c *checker) blockedRuns() []string {
	known := c.load.snapshot()
	var found []string
	for _, started := range c.ledger.prompts {
		key := string(started.Tenant) + "/" + string(started.Job)
		offered, seen := c.watch.when(key, started.Attempt, started.Host)
		if !seen {
			continue
		}
		w := known[key].wish
		for _, b := range c.ledger.blocks[started.Host+"."+string(started.Hash)] {
			var block route.Block
			if json.Unmarshal(b.body, &block) != nil || !block.HoldsFor(route.Tenant(started.Tenant), int64(w.size*w.size)) {
				continue
			}
			if offered.After(b.from.Add(viewLag)) && offered.Before(b.to) && !c.story.disturbed(b.from, offered) {
				found = append(found, fmt.Sprintf("%s attempt %d was offered to %s at %s, blocked from %s to %s (%s): %s",
					key, started.Attempt, started.Host, clock(offered), clock(b.from), clock(b.to), block.Kind, kinds(c.ledger.chains[key])))
			}
		}
	}
	return found
}

func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }
