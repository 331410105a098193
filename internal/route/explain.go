package route

import (
	"fmt"
	"strings"
	"time"
)

// Code is why a host does or does not take a job.
type Code string

const (
	Eligible    Code = "eligible"
	CodeOffline Code = "offline"
	CodeDrain   Code = "draining"
	CodeSick    Code = "unhealthy"
	CodeMissing Code = "missing"
	CodeBlocked Code = "blocked"
	CodeExclude Code = "excluded"
	CodeAvoid   Code = "avoided"
	CodeBusy    Code = "busy"
	CodeProbe   Code = "probation"
	CodeOverCap Code = "over_cap"
	CodeLiable  Code = "hosts_down"
	CodeOthers  Code = "other_tenants"
	CodeRest    Code = "resting"
	CodeCold    Code = "cold" // idle, but a host with the models in memory is free sooner than loading takes
)

// HostVerdict says whether one host takes a job, and if it does not, why.
type HostVerdict struct {
	Host     HostID    `json:"host"`
	Eligible bool      `json:"eligible"`
	Code     Code      `json:"code"`
	Text     string    `json:"text"` // for people: "missing model x.safetensors in Loader.ckpt_name", "blocked until …"
	Until    time.Time `json:"until,omitzero"`
}

// Explain says for every host whether it may take the job now, and if not, the main reason, in words for the job's
// tenant unless Want.Whole. Hosts are sorted by name; hosts that are away are listed when their capability is known.
func (f *Fleet) Explain(w Want, now time.Time) []HostVerdict {
	return f.ExplainSome(w, "", len(f.byName), now)
}

// ExplainSome is Explain for the first hosts after one.
func (f *Fleet) ExplainSome(w Want, after HostID, most int, now time.Time) []HostVerdict {
	d := f.choose(&w, now)
	x := f.use(w.Hash)
	f.eligible(&w, x, now)
	idle := f.idleElsewhere(x)
	at, found := f.placeByName(after)
	if found {
		at++
	}
	verdicts := make([]HostVerdict, 0, min(most, len(f.byName)-at))
	for _, n := range f.byName[at:] {
		if h := f.hosts[n]; !h.present && h.installation == nil {
			continue
		}
		if len(verdicts) == most {
			break
		}
		v := f.verdict(&w, x, n, now)
		if v.Code == Eligible {
			v = f.compared(d, n, idle, now)
		}
		verdicts = append(verdicts, f.withHost(v, n))
	}
	return verdicts
}

// withHost adds its host to a verdict, and a text when it has none.
func (f *Fleet) withHost(v HostVerdict, n int32) HostVerdict {
	v.Host, v.Eligible = f.hosts[n].id, v.Code == Eligible
	if v.Text == "" {
		v.Text = strings.ReplaceAll(string(v.Code), "_", " ")
	}
	return v
}

// Outlook reports whether Explain would find a host that may take the job now, and whether it would find an idle one that
// is cold.
func (f *Fleet) Outlook(w Want, now time.Time) (eligible, cold bool) {
	facts, x := f.tenants[w.Tenant], f.use(w.Hash)
	if facts != nil && (facts.liable() || facts.full()) || x.withheld[w.Tenant] {
		return false, false
	}
	d := f.choose(&w, now)
	f.eligible(&w, x, now)
	idle := f.idleElsewhere(x)
	switch {
	case d.warm:
		return d.host >= 0, idle
	case idle:
		return true, false
	}
	f.candidates(x, f.scratch.chosen, f.spare)
	f.scratch.chosen.each(func(n int32) { eligible = eligible || f.ripe(n, now) })
	return eligible, false
}

// compared compares a host that can take the job with the others: it may be idle and yet wait, since a warm host is free
// soon, or it may have room for one job more, which it is not given while another host is idle, nor long before it is free.
func (f *Fleet) compared(d decision, n int32, idle bool, now time.Time) HostVerdict {
	switch {
	case d.warm && d.host == n:
	case d.warm && f.free.has(n):
		text := "idle, but cold: a host with the models in memory is expected to be free before they are loaded here"
		return HostVerdict{Code: CodeCold, Text: text, Until: d.until}
	case !f.free.has(n) && (idle || !f.ripe(n, now)):
		return f.busy(n)
	}
	return HostVerdict{Code: Eligible}
}

// verdict needs scratch.eligible to be filled.
func (f *Fleet) verdict(w *Want, x *facts, n int32, now time.Time) HostVerdict {
	h := f.hosts[n]
	switch {
	case f.given.bar(n, w.Tenant):
		return HostVerdict{Code: CodeOthers, Text: "this host serves other tenants"}
	case !h.present:
		return HostVerdict{Code: CodeOffline}
	case h.state == Draining:
		return HostVerdict{Code: CodeDrain}
	case h.state == Resting:
		return HostVerdict{Code: CodeRest, Text: h.restText(), Until: h.until}
	case h.state != Online:
		return HostVerdict{Code: CodeSick}
	case !f.able(x, n):
		return HostVerdict{Code: CodeMissing, Text: x.missing(h)}
	case f.forbidden(w, x, n) != "":
		return HostVerdict{Code: CodeExclude, Text: f.forbidden(w, x, n)}
	}
	if b, ok := f.Blocked(h.id, x.hash); ok && b.HoldsFor(w.Tenant, w.Size) {
		return HostVerdict{Code: CodeBlocked, Text: blockText(&b, w), Until: b.Until}
	}
	switch {
	case f.liable(w.Tenant):
		return HostVerdict{Code: CodeLiable, Text: f.downText(w.Tenant)}
	case x.withheld[w.Tenant]:
		return HostVerdict{Code: CodeBlocked, Text: "blocked for a moment: a host went down with a job of this workflow, which is judged"}
	case f.capped(w.Tenant):
		text := fmt.Sprintf("over the tenant's cap: %s runs %d of %d", w.Tenant, f.Running(w.Tenant), f.tenants[w.Tenant].maxRunning)
		return HostVerdict{Code: CodeOverCap, Text: text}
	}
	return f.readiness(w, x, n, now)
}

// readiness judges a host that is right for the job, apart from its present load.
func (f *Fleet) readiness(w *Want, x *facts, n int32, now time.Time) HostVerdict {
	switch {
	case !f.scratch.eligible.has(n) && now.Before(w.AvoidUntil):
		return HostVerdict{Code: CodeAvoid, Text: "avoided: it failed this job before", Until: w.AvoidUntil}
	case !f.scratch.eligible.has(n):
		return HostVerdict{Code: CodeAvoid, Text: "avoided: it failed this job before, and other hosts can take it"}
	case x.probation.has(n) && x.running.has(n):
		return HostVerdict{Code: CodeProbe, Text: "probation: one job of this workflow at a time after a block"}
	case !f.free.has(n) && !f.spare.has(n):
		return f.busy(n)
	}
	return HostVerdict{Code: Eligible}
}

func (f *Fleet) busy(n int32) HostVerdict {
	h := f.hosts[n]
	v := HostVerdict{Code: CodeBusy, Text: fmt.Sprintf("busy: %d of %d slots", min(h.used(), h.slots), h.slots)}
	if held := h.used() - h.slots; held > 0 {
		v.Text += fmt.Sprintf(", %d more in line", held)
	}
	if h.foreign > 0 {
		v.Text += fmt.Sprintf("; %d of these are not ours", h.foreign)
	}
	if at := f.endsAt[n]; at != never {
		v.Until = moment(at)
		v.Text += ", free about " + v.Until.Format(time.RFC3339)
	}
	return v
}

func (h *host) restText() string {
	return fmt.Sprintf("resting until %s: %s", h.until.UTC().Format(time.RFC3339), h.why)
}

func (x *facts) missing(h *host) string {
	if h.installation == nil {
		return ""
	}
	missing := x.requirements.Missing(h.installation.capability)
	texts := make([]string, 0, len(missing))
	for _, m := range missing {
		texts = append(texts, m.String())
	}
	return strings.Join(texts, "; ")
}

// blockText describes a block. The failure's own text is shown to the tenant whose job failed, and to operators; other
// tenants see its kind only, since they must not learn what another tenant's jobs are or how they ended.
func blockText(b *Block, w *Want) string {
	text := "blocked"
	if !b.Until.IsZero() {
		text += " until " + b.Until.UTC().Format(time.RFC3339)
	}
	kind := strings.ReplaceAll(string(b.Kind), "_", " ")
	_, own := b.Own[w.Tenant]
	switch {
	case w.Whole || b.tenant() == w.Tenant:
		if b.Message != "" {
			text += fmt.Sprintf(" after %q", b.Message)
		}
	case own:
		text += ": " + kind + " on jobs of several tenants"
	default:
		text += ": " + kind + " on jobs of others"
	}
	return text
}

// tenant is the tenant whose failure led to a block. An old block does not say so: then it is the tenant for whom the block
// holds, when that is only one.
func (b *Block) tenant() Tenant {
	if b.Tenant == "" && len(b.Tenants) == 1 {
		return b.Tenants[0]
	}
	return b.Tenant
}

// forbidden is why the job or the affinity excludes a host; "" when they do not.
func (f *Fleet) forbidden(w *Want, x *facts, n int32) string {
	switch {
	case len(w.Only) > 0 && !f.named(w.Only, n):
		return "excluded: the job is for " + strings.Join(w.Only, ", ") + " only"
	case f.named(w.Exclude, n):
		return "excluded by the job"
	case x.affinity != nil && f.named(x.affinity.exclude, n):
		return "excluded by the workflow's affinity"
	}
	return ""
}

// HoldReason is why no host may take a job now, though slots may be free.
type HoldReason string

const (
	NoneCapable HoldReason = "none_capable"
	AllBlocked  HoldReason = "all_blocked"
	Excluded    HoldReason = "excluded"
	OverCap     HoldReason = "over_cap"
	NotDue      HoldReason = "not_due"
	HostsDown   HoldReason = "hosts_down"    // two hosts are out because of the tenant
	OthersHosts HoldReason = "other_tenants" // only hosts that do not serve the tenant can run it
)

// Hold is why a job waits.
type Hold struct {
	Reason HoldReason // "" when some host may take it, now or as soon as it is less busy
	Text   string     // one line for people
	Until  time.Time  // when that may change by itself; zero = not known
	Away   int        // capable hosts that are draining or unhealthy: they may come back by themselves
	Online bool       // whether a host is online that the tenant may have
}

// Hold says why no host may take the job, however idle it is. A host with an incapable block counts as not
// capable. Explain says it of each host.
func (f *Fleet) Hold(w Want, now time.Time) Hold {
	x := f.use(w.Hash)
	found := f.eligible(&w, x, now)
	switch {
	case now.Before(w.NotBefore):
		return Hold{Reason: NotDue, Text: "not due before " + w.NotBefore.UTC().Format(time.RFC3339), Until: w.NotBefore}
	case f.liable(w.Tenant):
		return Hold{Reason: HostsDown, Text: f.downText(w.Tenant)}
	case x.withheld[w.Tenant]:
		return Hold{}
	case !found:
		return f.weigh(&w, x, now)
	case f.capped(w.Tenant):
		return Hold{Reason: OverCap, Text: fmt.Sprintf("tenant %s runs %d jobs, as many as it may", w.Tenant, f.Running(w.Tenant))}
	}
	return Hold{}
}

// weigh finds the reason for a job that no online host is right for, or that avoids all that are. It counts by sets, so
// that many hosts cost little.
func (f *Fleet) weigh(w *Want, x *facts, now time.Time) (hold Hold) {
	able, free := f.scratch.planes[0], f.scratch.planes[1] // hosts that can run it; of these, hosts that the tenant may have
	able.copyFrom(f.capable(x))
	x.incapable.removeFrom(able)
	free.copyFrom(able)
	f.given.removeBarred(free, w.Tenant)
	able.andNot(free) // hosts that do not serve the tenant
	able.and(f.online)
	capable := free.count()
	free.and(f.online)
	hold.Away = capable - free.count()
	online := f.scratch.chosen
	online.copyFrom(f.online)
	f.given.removeBarred(online, w.Tenant)
	hold.Online = online.any()
	capable = free.count()
	switch {
	case capable == 0 && hold.Away == 0 && able.any():
		hold.Reason, hold.Text = OthersHosts, f.enumerated("every host that is online and can run it serves other tenants", able, f.nameOf)
	case !hold.Online:
		hold.Reason, hold.Text = NoneCapable, f.awayText(w, x, now)
	case capable == 0:
		hold.Reason, hold.Text = NoneCapable, f.lackText(w, x, online, now)
	default:
		f.weighCapable(&hold, w, x, free, now)
	}
	return hold
}

// weighCapable finds the reason for a job that some online hosts can run.
func (f *Fleet) weighCapable(hold *Hold, w *Want, x *facts, capable set, now time.Time) {
	f.applyWishes(w, x, capable)
	left := f.scratch.planes[2]
	left.copyFrom(capable)
	x.removeBlocked(left, w.Tenant, w.Size)
	capable.andNot(left)
	blocked := capable.any()
	first := int64(0)
	for _, b := range x.blocks {
		if capable.has(b.number) && b.until != 0 && (first == 0 || b.until < first) {
			first = b.until
		}
	}
	hold.Until = moment(first)
	f.fit(w, x, left)
	avoided := left.any() && !f.capped(w.Tenant)
	switch {
	case avoided && now.Before(w.AvoidUntil):
		hold.Reason, hold.Until = NotDue, w.AvoidUntil
		hold.Text = "only hosts that failed it before are left; they are tried again at " + w.AvoidUntil.UTC().Format(time.RFC3339)
	case blocked:
		hold.Reason, hold.Text = AllBlocked, "it is blocked on every host that can run it"
	default:
		hold.Reason, hold.Text = Excluded, "every online host that can run it is excluded"
	}
}
