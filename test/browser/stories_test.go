package browser_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// enter is the key of that name.
const enter = "\r"

// TestStories tells what a viewer sees and does on each page, in one browser and one fleet, as it would happen in a day. The order
// matters: a later story needs what an earlier one has left.
func TestStories(t *testing.T) { //nolint:paralleltest // a browser takes all of a small machine
	if browserPath() == "" {
		t.Skip(noBrowser)
	}
	f := start(t, "gpu-1", "gpu-2")
	b := f.open(f.url)
	for _, story := range []struct {
		name string
		tell func(*fleet, *tab)
	}{
		{"NothingYet", nothingYet}, {"AJobAndItsPicture", jobAndPicture}, {"AFailureAndItsBlock", failureAndBlock}, {"ABlockIsCleared", blockCleared},
		{"JobsByKeyboard", jobsByKeyboard}, {"JobsInAFlood", jobsInAFlood}, {"AnswersTakeLong", slowAnswers}, {"TheDeadAreRequeued", deadRequeued}, {"ADeadJobRunsElsewhere", deadAgainElsewhere}, {"AllThatMatchAreCancelled", allThatMatch}, {"AHostIsDrained", hostDrained}, {"AHostInDetail", hostInDetail}, {"WhatWaits", whatWaits},
		{"AWorkflowAndItsHosts", workflowAndHosts}, {"AWebhookAndItsTries", webhookAndTries}, {"WorkflowsTenantsSystem", otherViews}, {"MoreOfTheViews", moreOfTheViews}, {"AMatrixOfManyHosts", matrixOfMany}, {"ATraceHasALink", traceLink}, {"ATabIsPausedAndHidden", pausedAndHidden}, {"AGuestOnlyLooks", guest}, {"ATenantSeesItsOwn", tenant}, {"EverybodyCanUseIt", everybody},
	} {
		ok := t.Run(story.name, func(t *testing.T) {
			f.t, b.t = t, t
			story.tell(f, b)
		})
		f.t, b.t = t, t
		if !ok {
			return
		}
	}
}

func nothingYet(_ *fleet, b *tab) {
	b.says("live", "The fleet is ready", "dispatcher submit workflow_api.json --wait", "2 online")
	b.to("wall")
	b.says("Pictures of completed jobs appear here")
	b.to("jobs")
	b.says("No job yet")
	b.to("blocks")
	b.says("Nothing is blocked")
	b.to("dead")
	b.says("Nothing has died")
	b.to("")
}

// The job's row, its end and its picture come without a reload.
func jobAndPicture(f *fleet, b *tab) {
	b.to("wall")
	b.says("Wall")
	f.submit("acme", "cat-1", "poster", 1, func(s *job.Spec) {
		s.Workflow = []byte(strings.Replace(string(s.Workflow), `"seed":1,`, `"seed":9007199254740993,`, 1))
	})
	if end := f.ended("acme", "cat-1"); end != job.Completed {
		b.t.Fatalf("cat-1 is %s", end)
	}
	b.says("cat-1")
	b.until("the picture is on the wall", `[...document.querySelectorAll('.wall .frame img')].some((i) => i.naturalWidth > 0)`)
	b.to("job/acme/cat-1")
	b.says("completed", "Timeline", "1 output", "poster, image")
}

func failureAndBlock(f *fleet, b *tab) {
	f.sims["gpu-2"].AddFault(comfysim.Fault{Kind: comfysim.FaultRaise, Class: detailer, Exception: "ImportError", Message: "cannot import name 'solutions'"})
	b.to("blocks")
	b.says("Nothing is blocked")
	f.submit("acme", "cat-2", "portrait", 2, func(s *job.Spec) { s.PreferHosts = []string{"gpu-2"} })
	if end := f.ended("acme", "cat-2"); end != job.Completed {
		b.t.Fatalf("cat-2 is %s", end)
	}
	b.says("gpu-2", "s left", "execution error")
	first := eval[string](b, `document.querySelector('.cell.on span').textContent`)
	b.until("the block counts down", fmt.Sprintf(`document.querySelector('.cell.on span') && document.querySelector('.cell.on span').textContent !== %q`, first))
	b.to("job/acme/cat-2")
	b.says("ImportError in FaceDetailer", "avoiding gpu-2", "attempt 2")
	if parts := eval[[]string](b, `[...document.querySelectorAll('.line span')].map((s) => s.title)`); !strings.HasPrefix(strings.Join(parts, "|"), "waits") && !strings.Contains(strings.Join(parts, "|"), "gpu-2 failed") {
		b.t.Errorf("the timeline has %q", parts)
	}
}

// The focus is moved to the block by keys, u asks, Enter confirms.
func blockCleared(_ *fleet, b *tab) {
	b.to("blocks")
	b.says("s left")
	b.press("j")
	b.press("u")
	b.says("Clear the block of gpu-2?")
	b.press(enter)
	b.says("1 block cleared.", "Nothing is blocked")
}

func jobsByKeyboard(f *fleet, b *tab) {
	b.press("g")
	b.press("j")
	b.says("cat-1", "cat-2")
	f.submit("bolt", "dog-1", "poster", 3, nil)
	f.ended("bolt", "dog-1")
	b.says("dog-1")
	b.until("the row says how it ended", `[...document.querySelectorAll('tr[data-row]')].some((r) => r.innerText.includes('dog-1') && r.innerText.includes('completed'))`)
	b.until("a row has the attempt and how many count", `[...document.querySelectorAll('tr[data-row]')].some((r) => r.innerText.includes('cat-2') && r.innerText.includes('2/3'))`)
	b.do("show one tenant's", chromedp.Evaluate[chromedp.Void](`void (location.hash = '#/jobs?tenant=bolt')`))
	b.until("the others are left out", `document.querySelector('main table')?.innerText.includes('dog-1') && !document.querySelector('main table').innerText.includes('cat-1')`)
	b.press("j")
	b.press(enter)
	b.until("the job is open", `location.hash === '#/job/bolt/dog-1'`)
	b.press("/")
	b.until("the search has the focus", `document.activeElement.id === 'search'`)
	b.do("find a job", chromedp.Evaluate[chromedp.Void](`void (document.activeElement.value = '')`), // chromedp types the slash although its key was handled
		chromedp.SendKeys(chromedp.CSS("#search"), "cat-"+enter))
	b.until("the search is in the address", `location.hash === '#/jobs?job=cat-'`)
	b.until("two jobs match", `document.querySelectorAll('main tr[data-row]').length === 2`)
	f.submit("bolt", "dog-2", "poster", 3, func(s *job.Spec) { s.Name = "Rex on the beach" })
	f.ended("bolt", "dog-2")
	b.press("/")
	b.do("find it by its name", chromedp.Evaluate[chromedp.Void](`void (document.activeElement.value = '')`), chromedp.SendKeys(chromedp.CSS("#search"), "the beach"+enter))
	b.until("the name is in the address", `location.hash === '#/jobs?text=the%20beach'`)
	b.until("one job matches", `document.querySelectorAll('main tr[data-row]').length === 1`)
	if title := eval[string](b, "document.title"); !strings.HasSuffix(title, "comfyherd") {
		b.t.Errorf("the title is %q", title)
	}
}

// module is a module of the page, as the page itself has it.
func module(name string) string {
	return `import(document.querySelector('script[type="module"]').src).then((page) => page.modules['` + name + `'])`
}

// More jobs come than the list shows, and a job begins while the list of those that run is read.
func jobsInAFlood(_ *fleet, b *tab) {
	b.to("jobs")
	b.until("the list is read", `document.querySelectorAll('main tr[data-row]').length === 4`)
	b.do("flood the list", chromedp.Evaluate[chromedp.Void](`void `+module("views/jobs.js")+`.then((jobs) => jobs.changed(Array.from({ length: 300 },
		(_, i) => ({ of: 'jobs', kind: 'queued', sequence: 1e9 + i, time: new Date().toISOString(), event: { tenant: 'flood', job: 'flood-' + i } }))))`))
	b.says("100 or more new jobs")
	b.do("take them", chromedp.Click(chromedp.CSS(`button.later.primary`)))
	b.says("flood-299", "flood-200")
	if rows := eval[int](b, `document.querySelectorAll('main tr[data-row]').length`); rows != 100 {
		b.t.Errorf("%d rows", rows)
	}
	b.do("select what is shown", chromedp.Evaluate[chromedp.Void](`void document.querySelector('thead input').click()`))
	b.click(".pickbar button", "All that match")
	b.says("jobs selected.", "104 jobs") // a flood that is no more than shown, and the four that are there
	b.click(".pickbar button", "Cancel")
	b.says("Cancel 100 jobs?")
	b.press("\x1b")
	b.click(".pickbar button", "Clear the selection")
	b.do("read the list", chromedp.Evaluate[chromedp.Void](`void `+module("views/jobs.js")+`.then(async (jobs) => {
		const read = jobs.resync();
		jobs.changed([{ of: 'jobs', kind: 'queued', sequence: 3e9, time: new Date().toISOString(), event: { tenant: 'flood', job: 'meanwhile' } }]);
		await read;
		requestAnimationFrame(() => requestAnimationFrame(() => { window.reread = true; }));
	})`))
	b.until("the list was read", `window.reread`)
	if !eval[bool](b, `/meanwhile|1 new job/.test(document.querySelector('main').innerText)`) { // the pointer may be on the list, which stands still then
		b.t.Error("a job whose first event came while the list was read is not in it")
	}
	b.do("read those that run", chromedp.Evaluate[chromedp.Void](`void `+module("views/running.js")+`.then(async ({ Running }) => {
		const running = new Running();
		const started = (job, sequence) => ({ of: 'jobs', kind: 'started', sequence, event: { tenant: 'flood', job } });
		running.changed([started('gone', 1)]);
		const read = running.load({ tenant: 'flood' });
		running.changed([started('begun', 2)]);
		await read;
		window.runs = running.list().map((r) => r.job).join();
	})`))
	b.until("the list was read", `window.runs !== undefined`)
	if runs := eval[string](b, `window.runs`); runs != "begun" {
		b.t.Errorf("the running jobs are %q, want the one that has begun meanwhile", runs)
	}
	b.to("")
}

// What is read is shown, also when more happens before the answer comes.
func slowAnswers(_ *fleet, b *tab) {
	b.do("read slowly", chromedp.Evaluate[chromedp.Void](`void `+module("api.js")+`.then(({ Resource }) => {
		window.shown = 0;
		const slow = new Resource(() => new Promise((done) => setTimeout(done, 300)), () => { shown++; }, 10);
		slow.load();
		setInterval(() => shown < 3 && slow.soon(), 5);
	})`))
	b.until("the answers are shown", `window.shown >= 3`)
}

func deadRequeued(f *fleet, b *tab) {
	b.do("blur", chromedp.Evaluate[chromedp.Void](`void document.activeElement.blur()`))
	b.press("g")
	b.press("d")
	b.says("Nothing has died")
	f.submit("acme", "cat-3", "portrait", 4, func(s *job.Spec) { s.OnlyHosts, s.MaxAttempts = []string{"gpu-2"}, 1 })
	if end := f.ended("acme", "cat-3"); end != job.Dead {
		b.t.Fatalf("cat-3 is %s", end)
	}
	b.says("attempts exhausted", "ImportError")
	f.sims["gpu-2"].ClearFaults()
	b.click("main .filters button", "Requeue all")
	b.says("Requeue 1 job?", "in 1 group", "The oldest died")
	b.press(enter)
	b.says("1 job requeued.")
	b.press("j")
	b.press("r")
	b.says("Requeue 1 job?", "The oldest died")
	b.press(enter)
	b.says("0 jobs requeued.") // it was requeued before
	b.to("dead?letters=all")
	b.says("all letters", "cat-3", "gpu-2: execution error")
	b.to("jobs?job=cat-3-r1")
	b.says("cat-3-r1", "every host that can run it is blocked")
	b.press("c") // of the row that has the focus: there is none
	b.press("j")
	b.press("c")
	b.says("Cancel 1 job?")
	b.press(enter)
	b.says("1 job cancelled.", "cancelled")
}

func hostDrained(_ *fleet, b *tab) {
	b.do("give a name", chromedp.Evaluate[chromedp.Void](`void localStorage.setItem('comfyherd.by', 'Łukasz')`))
	b.to("hosts")
	b.says("gpu-1", "gpu-2", "idle")
	b.do("drain gpu-1", chromedp.Click(chromedp.CSS(`tr[data-key="gpu-1"] button`)))
	b.says("Drain gpu-1?")
	b.press(enter)
	b.until("the host drains", `document.querySelector('tr[data-key="gpu-1"]').innerText.includes('draining')`)
	b.do("resume gpu-1", chromedp.Click(chromedp.CSS(`tr[data-key="gpu-1"] button`)))
	b.press(enter)
	b.until("the host is back", `document.querySelector('tr[data-key="gpu-1"]').innerText.includes('online')`)
	b.to("hosts/gpu-1")
	b.says("About", "NVIDIA", "Last attempts")
	b.do("draw a host that was busy", chromedp.Evaluate[chromedp.Void](`void `+module("views/hosts.js")+`.then((hosts) => { window.line = hosts.busy({ busy: Array(30).fill(50) }).strings.join(''); })`))
	b.until("how busy it was is a line", `window.line?.includes('class="busy"')`)
	b.to("system")
	b.says("by Łukasz from 127.0.0.1")
	b.do("drop the name", chromedp.Evaluate[chromedp.Void](`void localStorage.removeItem('comfyherd.by')`))
}

func whatWaits(f *fleet, b *tab) {
	b.to("waiting")
	b.says("Nothing waits")
	f.submit("coral", "cow-1", "poster", 5, func(s *job.Spec) {
		s.OnlyHosts = []string{"gpu-9"}
		s.Workflow = []byte(strings.Replace(string(s.Workflow), `"seed":5,`, `"seed":9007199254740993,`, 1))
	})
	b.says("cow-1")
	f.submit("coral", "cow-2", "nowhere", 6, nil)
	b.says("cow-2", "no host can run it")
	b.do("open the page anew", chromedp.Reload())
	b.until("the title says that something needs a person", `document.title.startsWith('(1) Waiting')`)
	b.do("read the icon", chromedp.Evaluate[chromedp.Void](`void fetch(document.querySelector('link[rel=icon]').href).then((r) => r.text()).then((t) => { window.icon = t; })`))
	b.until("so does the icon", `document.querySelector('link[rel=icon]').getAttribute('href') === 'icon/1' && window.icon?.includes('>1</text>')`)
	if err := f.q.Call(b.t.Context(), "cancel", map[string]string{"tenant": "coral", "job": "cow-2"}, new(any)); err != nil {
		b.t.Fatal(err)
	}
	b.to("job/coral/cow-1")
	b.says("Why it waits", "The job as it was published")
	b.click("main .chips button", "excluded")
	b.until("only such hosts are shown", `document.querySelector('main .chips button[aria-pressed="true"]')?.innerText.includes('excluded')`)
	b.until("the seed has all its digits", `document.querySelector('details pre').textContent.includes('"seed": 9007199254740993')`)
	b.press("c")
	b.says("Cancel cow-1?")
	b.press(enter)
	b.says("The job is cancelled.", "by page from 127.0.0.1")
}

// The graph is read out of a job that is dead, the rule is written, and a pair that has failed is seen.
func workflowAndHosts(f *fleet, b *tab) {
	b.to("workflows")
	b.says("portrait, image")
	hash := eval[string](b, `[...document.querySelectorAll('main tr[data-row]')].find((r) => r.innerText.includes('portrait')).dataset.key`)
	b.to("workflow/" + hash)
	b.says("portrait, image", "KSampler", "latent image of 5", "ckpt name portrait.safetensors", "Every host that can run it may run it.")
	b.press("a")
	b.says("Hosts of this workflow")
	b.do("prefer gpu-1", chromedp.SendKeys(chromedp.CSS("dialog input"), "gpu-1"+enter))
	b.says("The rule is kept.", "Preferred")
	b.press("a")
	b.do("prefer none", chromedp.Evaluate[chromedp.Void](`void ((i) => { i.value = ''; i.dispatchEvent(new Event('input')); })(document.querySelector('dialog input'))`))
	b.press(enter)
	b.says("The rule is removed.", "Every host that can run it may run it.")
	if _, err := f.q.PutStrikes(b.t.Context(), "gpu-1", workflow.Hash(hash), []byte(`{"tenants":{"acme":1}}`), time.Minute, 0); err != nil {
		b.t.Fatal(err)
	}
	f.eventually("the strike is read", func() bool {
		var answer queue.BlocksAnswer
		err := f.q.Call(b.t.Context(), "blocks", queue.BlocksRequest{Struck: true}, &answer)
		return err == nil && len(answer.Struck) == 1
	})
	b.to("blocks")
	b.until("the pair is marked", `document.querySelector('.cell.struck')?.title.includes('has failed 1×, and is not blocked')`)
	b.says("Strikes", "1 failure")
	b.to("hosts/gpu-1")
	b.says("Strikes", "1 failure")
}

// A try appears as it is stored, whoever has made it.
func webhookAndTries(f *fleet, b *tab) {
	b.to("webhooks")
	b.says("No webhook", "dispatcher webhooks set")
	set := map[string]any{"tenant": "acme", "name": "orders", "url": "https://shop.example.com/hooks", "events": []string{"job.dead"}}
	if err := f.q.Call(b.t.Context(), "webhooks.set", set, new(any)); err != nil {
		b.t.Fatal(err)
	}
	b.says("acme / orders", "shop.example.com", "Nothing was sent to it yet.")
	try := jetstream.WebhookTry{Tenant: "acme", Webhook: "orders", ID: "evt_1_17", Type: "job.dead", Sequence: 17, Job: "cat-3", Outcome: jetstream.TryFailed, Status: 503, Error: "the answer was 503", Time: f.q.Now()}
	if err := f.q.AppendTry(b.t.Context(), &try, "test"); err != nil {
		b.t.Fatal(err)
	}
	b.says("job.dead", "the answer was 503", "cat-3")
	b.do("disable it", chromedp.Evaluate[chromedp.Void](`void [...document.querySelectorAll('main button')].find((x) => x.innerText === 'Disable').click()`))
	b.says("Send nothing more to orders?")
	b.press(enter)
	b.says("orders is disabled.", "disabled")
}

func otherViews(_ *fleet, b *tab) {
	b.to("workflows")
	b.says("poster, image", "portrait, image", "2 of 2")
	b.to("tenants/%C3") // of an address that was cut
	b.until("the tenants are shown", `document.title.includes('Tenants')`)
	b.until("the tenants are read", `!document.querySelector('main [aria-busy]')`)
	b.to("")
	b.until("the dead of the day are counted", `/[1-9]\d* today/.test(document.querySelector('.figure[href="#/dead"]')?.innerText)`)
	b.to("system")
	b.says("Dispatchers", "one", "COMFY_EVENTS", "Settings of dispatcher one", "cancel")
}

// A stream that was closed goes on where it ended, and what came meanwhile is there.
func pausedAndHidden(f *fleet, b *tab) {
	b.to("jobs?tenant=night")
	b.until("the list is read", `!document.querySelector('main [aria-busy]')`)
	b.press(".")
	b.says("paused")
	b.do("hide the tab for long", chromedp.Evaluate[chromedp.Void](`void (() => {
		const real = window.setTimeout;
		window.setTimeout = (then) => real(then, 0);
		Object.defineProperty(document, 'hidden', { value: true, configurable: true });
		document.dispatchEvent(new Event('visibilitychange'));
		window.setTimeout = real;
	})()`))
	b.do("show it again", chromedp.Evaluate[chromedp.Void](`void (delete document.hidden, document.dispatchEvent(new Event('visibilitychange')))`))
	f.submit("night", "owl-1", "poster", 6, nil)
	f.ended("night", "owl-1")
	if strings.Contains(b.text(), "owl-1") {
		b.t.Error("a paused page goes on")
	}
	b.press(".")
	b.says("live", "owl-1")
	if rows := eval[int](b, `document.querySelectorAll('main tr[data-row]').length`); rows != 1 {
		b.t.Errorf("%d rows of one job", rows)
	}
}

// Nothing happens meanwhile that would make the page read again.
func tenant(f *fleet, b *tab) {
	url := f.page(dashboard.Config{Keys: must(dashboard.ParseKeys("tenant/quiet:quiets-word"))})
	b.do("open "+url, chromedp.Navigate(url))
	b.says("Password or token")
	b.do("log in", chromedp.SendKeys(chromedp.CSS("#secret"), "quiets-word"+enter))
	b.says("live", "nothing waits")
	if text := b.text(); strings.Contains(text, "cat-1") || strings.Contains(text, "Hosts") {
		b.t.Errorf("a tenant is shown %s", text)
	}
	b.do("go back to "+f.url, chromedp.Navigate(f.url))
	b.says("live")
}

func guest(f *fleet, b *tab) {
	url := f.page(dashboard.Config{Keys: must(dashboard.ParseKeys("look:guests-word"))})
	b.do("open "+url, chromedp.Navigate(url))
	b.says("Password or token")
	b.do("log in", chromedp.SendKeys(chromedp.CSS("#secret"), "guests-word"+enter))
	b.says("may look", "Running")
	b.to("hosts")
	b.says("gpu-1")
	if buttons := eval[int](b, `document.querySelectorAll('main table button').length`); buttons != 0 {
		b.t.Errorf("a guest has %d buttons that change something", buttons)
	}
	b.do("go back to "+f.url, chromedp.Navigate(f.url))
	b.says("live")
}
