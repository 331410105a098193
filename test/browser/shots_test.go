package browser_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// Where `make screenshots` wants its pictures, and those of the README; without the first none are taken.
const (
	shotsDir  = "SCREENSHOTS"
	readmeDir = "README_PICTURES"
)

// TestScreenshots takes pictures of every view, in both themes and at the width of a phone, for people to look at.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(shotsDir)
	if dir == "" {
		t.Skip("takes no part in the tests: `make screenshots` runs it")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f := start(t, "gpu-1", "gpu-2", "gpu-3", "gpu-4")
	f.stage()
	b := f.open(f.url)
	b.says("Running", "live")
	f.readme(b, os.Getenv(readmeDir))
	f.bustle()
	for _, look := range []struct {
		name          string
		theme         string
		width, height int64
	}{{"light", "light", 1280, 860}, {"dark", "dark", 1280, 860}, {"phone", "light", 375, 740}} {
		b.do(look.name, chromedp.EmulateViewport(look.width, look.height), scheme(look.theme))
		for _, view := range []string{"", "jobs", "wall", "hosts", "hosts/gpu-2", "blocks", "workflows", "workflow/" + f.anyHash(), "tenants", "dead", "dead?letters=all", "waiting", "webhooks", "system", "job/acme/shot-07"} {
			b.to(view)
			b.until("the view is read", "!document.querySelector('main [aria-busy]')")
			b.do("settle", chromedp.Sleep(700*time.Millisecond))
			b.shot(filepath.Join(dir, fmt.Sprintf("%s-%s.png", look.name, name(view))))
		}
	}
}

// anyHash is the workflow of a job.
func (f *fleet) anyHash() string {
	e, _, err := f.q.Last(f.t.Context(), "acme", "shot-07")
	if err != nil {
		f.t.Fatal(err)
	}
	return string(e.Hash)
}

func name(view string) string {
	view, query, _ := strings.Cut(view, "?")
	if query != "" {
		return view + "-" + strings.ReplaceAll(query, "=", "-")
	}
	if strings.HasPrefix(view, "workflow/") {
		return "workflow"
	}
	if view == "" {
		return "now"
	}
	return filepath.Base(filepath.Dir("/" + view + "/")) // the last part of a path
}

func scheme(theme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
		})
		return err
	})
}

func (b *tab) shot(path string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testTimeout)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(path, picture, 0o644)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", path, err)
	}
}

// readme takes the pictures of the README: three jobs run, and those before them have made landscapes.
func (f *fleet) readme(b *tab, dir string) {
	if dir == "" {
		return
	}
	seed := uint64(1)
	for link, err := range f.q.Stream(f.t.Context(), names.JobEventsPrefix+"*.*.completed", time.Time{}) {
		if err != nil {
			f.t.Fatal(err)
		}
		for _, o := range link.Outputs {
			if _, err := f.q.StoreOutput(f.t.Context(), o.Object, "image/jpeg", bytes.NewReader(landscape(seed))); err != nil {
				f.t.Fatal(err)
			}
		}
		if seed++; seed > 14 {
			break
		}
	}
	for n, tenant := range []job.Tenant{"acme", "bolt", "coral"} {
		id := fmt.Sprintf("order-%d", 1001+n)
		f.submit(tenant, id, "poster", 50+n, func(s *job.Spec) {
			s.Workflow = []byte(strings.Replace(string(s.Workflow), `"steps":20`, `"steps":40`, 1))
		})
	}
	b.do("show it", chromedp.EmulateViewport(1280, 800), scheme("dark"), chromedp.Reload())
	b.says("order-1003")
	for n, tenant := range []job.Tenant{"acme", "bolt", "coral"} {
		if err := f.q.PublishPreview(tenant, job.ID(fmt.Sprintf("order-%d", 1001+n)), "image/jpeg", landscape(uint64(40+n))); err != nil {
			f.t.Fatal(err)
		}
	}
	b.until("the previews are there", `[...document.querySelectorAll('.runs img')].filter((i) => i.naturalWidth > 0).length === 3`)
	b.do("let the runs get on", chromedp.Sleep(6*time.Second))
	b.photo(filepath.Join(dir, "now.webp"))
	b.do("the light theme", scheme("light"))
	b.to("job/acme/shot-07")
	b.says("ImportError in FaceDetailer")
	b.until("the picture is there", `document.querySelector('.gallery img')?.naturalWidth > 0`)
	b.photo(filepath.Join(dir, "job.webp"))
	b.to("")
}

// photo takes a small picture.
func (b *tab) photo(path string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testTimeout)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		shot, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatWebp, Quality: new(int64(80))})
		if err != nil {
			return err
		}
		return os.WriteFile(path, shot.Data, 0o644)
	}))
	if err != nil {
		b.t.Fatalf("%s: %v", path, err)
	}
}

// stage is a fleet that has something to show: pictures, a block, jobs that died, and one that waits.
func (f *fleet) stage() {
	f.sims["gpu-2"].AddFault(comfysim.Fault{Kind: comfysim.FaultRaise, Class: detailer, Exception: "ImportError", Message: "cannot import name 'solutions' from 'mediapipe'"})
	tenants := []job.Tenant{"acme", "bolt", "coral"}
	for n := range 14 {
		f.submit(tenants[n%3], fmt.Sprintf("shot-%02d", n+1), []string{"portrait", "poster"}[n%2], n+1, func(s *job.Spec) {
			if n == 6 {
				s.PreferHosts = []string{"gpu-2"}
			}
		})
	}
	for n := range 14 {
		f.ended(tenants[n%3], fmt.Sprintf("shot-%02d", n+1))
	}
	f.submit("bolt", "shot-dead", "portrait", 99, func(s *job.Spec) { s.OnlyHosts, s.MaxAttempts = []string{"gpu-2"}, 1 })
	f.submit("coral", "shot-invalid", "portrait", 98, func(s *job.Spec) { s.Workflow = []byte(`{"1":{"class_type":"NoSuchNode","inputs":{}}}`) })
}

// bustle keeps jobs running while the pictures are taken.
func (f *fleet) bustle() {
	ctx := f.t.Context()
	f.beside(func(stop context.Context) error {
		tick := time.NewTicker(220 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop.Done():
				return nil
			case <-ctx.Done():
				return nil
			case <-tick.C:
				spec := job.Spec{ID: job.ID(fmt.Sprintf("order-%03d", n)), Workflow: []byte(graph([]string{"portrait", "poster"}[n%2], 200+n))}
				if _, err := f.q.Submit(ctx, job.Lane{Tenant: []job.Tenant{"acme", "bolt", "coral"}[n%3], Priority: job.Usual}, spec); err != nil {
					return nil
				}
			}
		}
	})
}
