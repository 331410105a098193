package browser_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/chromedp/chromedp"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
)

// click clicks the first element of a selector, or that with a text.
func (b *tab) click(selector, text string) {
	b.t.Helper()
	b.until("there is "+selector+" "+text, fmt.Sprintf(`[...document.querySelectorAll(%q)].some((e) => e.innerText.includes(%q) && !e.disabled)`, selector, text))
	b.do("click "+selector+" "+text, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`void [...document.querySelectorAll(%q)].find((e) => e.innerText.includes(%q) && !e.disabled).click()`, selector, text)))
}

// forgive forgets what the browser has complained of with a text in it.
func (b *tab) forgive(text string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = slices.DeleteFunc(b.wrong, func(w string) bool { return strings.Contains(w, text) })
}

// A dead job runs again on another host than the one that it had asked for, and its trace has an id.
func deadAgainElsewhere(f *fleet, b *tab) {
	b.until("screen readers were told", `document.getElementById('news').textContent.includes('died')`)
	b.to("job/acme/cat-3")
	b.says("dead", "Trace")
	b.until("the id of the trace is there", `[...document.querySelectorAll('main .command code')].some((c) => /^[0-9a-f]{32}$/.test(c.textContent))`)
	b.press("r")
	b.says("Only on these hosts")
	b.until("the hosts are offered", `document.querySelectorAll('#hosts option').length === 2`)
	b.do("choose gpu-1", chromedp.SendKeys(chromedp.CSS("dialog input"), "gpu-1"+enter))
	b.says("Published again.", "requeued as")
	again := eval[string](b, `[...document.querySelectorAll('main header a.job')].map((a) => a.textContent).find((id) => id.startsWith('cat-3-r'))`)
	if end := f.ended("acme", again); end != job.Completed {
		b.t.Fatalf("%s is %s", again, end)
	}
	e, _, err := f.q.Last(b.t.Context(), "acme", job.ID(again))
	if err != nil || e.Host != "gpu-1" {
		b.t.Errorf("%s ran on %q, %v", again, e.Host, err)
	}
	b.to("job/acme/none")
	b.says("Tenant acme has no job none", "for 72 h")
	b.forgive("404") // the browser tells of it, too
}

// What is shown is selected at once, and changed one by one; of what matches, jobs that came later are left out.
func allThatMatch(f *fleet, b *tab) {
	excluded := func(s *job.Spec) { s.OnlyHosts = []string{"gpu-9"} }
	for n := range 3 {
		f.submit("flock", fmt.Sprintf("sheep-%d", n), "poster", n, excluded)
	}
	b.to("jobs?tenant=flock")
	b.until("all of them wait", `[...document.querySelectorAll('main tr[data-row]')].filter((r) => r.innerText.includes('is excluded')).length === 3`)
	b.do("read all that match", chromedp.Evaluate[chromedp.Void](`void `+module("bulk.js")+`.then(async ({ matching }) => {
		const all = [...(await matching({ tenant: 'flock' }, 1e9)).values()];
		const first = Math.min(...all.map((r) => r.first.sequence));
		window.matches = all.length + ' ' + (await matching({ tenant: 'flock' }, first)).size;
	})`))
	b.until("they are read", `window.matches`)
	if got := eval[string](b, `window.matches`); got != "3 1" {
		b.t.Errorf("%s jobs match, want 3 in all and 1 up to the first", got)
	}
	b.do("select what is shown", chromedp.Evaluate[chromedp.Void](`void document.querySelector('thead input').click()`))
	b.click(".pickbar button", "Cancel")
	b.says("Cancel 3 jobs?")
	b.press(enter)
	b.says("3 jobs cancelled.")
	b.to("jobs?state=completed")
	b.until("a job has its small picture", `[...document.querySelectorAll('main tr[data-row] .shot img')].some((i) => i.naturalWidth > 0)`)
	b.press("j")
	b.press("x")
	b.until("one is selected", `document.querySelector('.pickbar')?.innerText.includes('1 job')`)
	b.press("\x1b")
	b.until("none is selected", `!document.querySelector('.pickbar')`)
}

// What a host ran, what happened to it, and what it can run.
func hostInDetail(_ *fleet, b *tab) {
	b.to("hosts/gpu-2")
	b.says("Last attempts", "execution error")
	b.until("its blocks were told", `[...document.querySelectorAll('.tail li')].some((l) => l.innerText.includes('blocked'))`)
	b.until("what it can run is there", `document.querySelector('input.find')`)
	b.do("look for a model", chromedp.SendKeys(chromedp.CSS("input.find"), "PORTRAIT"))
	b.says("portrait.safetensors", "checkpoints")
	b.do("leave the field", chromedp.Evaluate[chromedp.Void](`void document.activeElement.blur()`))
	b.to("hosts/gpu-9")
	b.says("gpu-9 is not online")
}

// What the other views have beside their rows.
func moreOfTheViews(f *fleet, b *tab) {
	b.to("workflows")
	b.until("jobs of the last hour are counted", `Number(document.querySelector('td[data-label="in the last hour"]')?.textContent) > 0`)
	b.until("the last picture is there", `[...document.querySelectorAll('main .mini img')].some((i) => i.naturalWidth > 0)`)
	b.to("tenants")
	b.until("the GPU time is there", `[...document.querySelectorAll('td[data-label="GPU time"]')].some((c) => /\d+s/.test(c.textContent))`)
	b.until("the waits are there", `[...document.querySelectorAll('td[data-label="95 % wait"]')].some((c) => /\d/.test(c.textContent))`)
	f.submit("acme", "slow-1", "poster", 1, func(s *job.Spec) { s.OnlyHosts = []string{"gpu-9"} })
	b.until("what waits is a bar of its priority", `document.querySelector('tr[data-key="acme"] .lanes')?.getAttribute('aria-label') === '1 at priority 5' && document.querySelectorAll('tr[data-key="acme"] .lanes i')[5].className === 'on'`)
	if err := f.q.Call(b.t.Context(), "cancel", map[string]string{"tenant": "acme", "job": "slow-1"}, new(any)); err != nil {
		b.t.Fatal(err)
	}
	b.to("wall")
	b.click(".chips a", "bolt")
	b.until("one tenant's pictures are left", `location.hash === '#/wall?tenant=bolt' && [...document.querySelectorAll('.wall .tile .mono')].every((m) => m.textContent.startsWith('dog'))`)
	b.click("main header button", "Blur")
	b.until("the pictures are blurred", `document.querySelector('.wall.blur') && document.querySelector('[role=switch]').getAttribute('aria-checked') === 'true'`)
	b.click("main header button", "Blur")
	b.until("a picture can be downloaded", `document.querySelector('.wall .tile .under a[href$="?download"]') && document.querySelector('.wall .tile .under a[href^="#/workflow/"]')`)
	b.to("system")
	b.says("Round trip", "failures, from which the next attempt follows", "At this rate")
}

// The matrix of more than 60 hosts has a row for each label, and unfolds.
func matrixOfMany(_ *fleet, b *tab) {
	b.do("build it", chromedp.Evaluate[chromedp.Void](`void `+module("views/matrix.js")+`.then(({ Matrix }) => {
		const m = new Matrix(() => {}, () => {});
		m.read = () => {};
		m.labels = new Map(Array.from({ length: 50 }, (_, i) => ['gpu-' + i, ['gpu=4090']]));
		const blocks = Array.from({ length: 100 }, (_, i) => ({ host: 'gpu-' + i, hash: 'aa' + (i % 2), end: Date.now() + 1e5, lasts: 1e5, tenants: ['*'] }));
		m.axes(blocks, [], blocks);
		const words = () => m.rows().map((r) => r.host ?? r.group.name + ' ' + r.group.hosts.length + ' ' + r.group.counts.get('aa1')).slice(0, 3).join();
		window.matrix = [words(), (m.unfold('gpu=4090'), words()), String(m.rows().length)].join(' | ');
	})`))
	b.until("it is there", `window.matrix`)
	if got := eval[string](b, `window.matrix`); !strings.HasPrefix(got, "gpu-… 50 25,gpu=4090 50 25 | gpu-… 50 25,gpu=4090 50 25,gpu-0 | 32") {
		b.t.Errorf("the rows are %s", got)
	}
}

// The address of a trace is a link where it was given.
func traceLink(f *fleet, b *tab) {
	url := f.page(dashboard.Config{Trace: "https://tempo.example.com/trace/{trace}"})
	b.do("open "+url, chromedp.Navigate(url+"#/job/acme/cat-1"))
	b.until("the trace has a link", `/^https:\/\/tempo\.example\.com\/trace\/[0-9a-f]{32}$/.test([...document.querySelectorAll('main a')].find((a) => a.innerText === 'open the trace')?.href)`)
	b.do("go back to "+f.url, chromedp.Navigate(f.url))
	b.says("live")
}
