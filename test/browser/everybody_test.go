package browser_test

import (
	"github.com/chromedp/chromedp"
)

// problems are what keeps somebody from using a view: controls without a name, pictures without a text, text of too little contrast,
// targets too small to be hit, or a page that is wider than the screen.
const problems = `(() => {
  const found = [];
  const seen = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length > 0;
  const name = (e) => e.getAttribute('aria-label') || e.innerText?.trim() || e.title || e.labels?.[0]?.innerText || e.querySelector('img[alt]')?.alt;
  for (const e of document.querySelectorAll('a[href], button, input, select, summary')) if (seen(e) && !name(e) && !e.querySelector('img[alt=""], svg')) found.push('no name: ' + e.outerHTML.slice(0, 120));
  for (const e of document.querySelectorAll('img:not([alt])')) found.push('no alt: ' + e.outerHTML.slice(0, 120));
  for (const e of document.querySelectorAll('button, select, main input')) if (seen(e) && Math.min((e.closest('label') ?? e).offsetWidth, (e.closest('label') ?? e).offsetHeight) < 24) found.push('small target: ' + e.outerHTML.slice(0, 120));
  const g = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (css, below) => { g.globalCompositeOperation = 'copy'; g.fillStyle = below ? 'rgb(' + below.join(',') + ')' : '#fff'; g.fillRect(0, 0, 1, 1); g.globalCompositeOperation = 'source-over'; g.fillStyle = css; g.fillRect(0, 0, 1, 1); return [...g.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const ground = (e) => { const way = []; for (let at = e; at; at = at.parentElement) way.unshift(getComputedStyle(at).backgroundColor); return way.reduce((below, css) => rgb(css, below), null); };
  const light = (c) => { const [r, gr, b] = c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * gr + 0.0722 * b; };
  const done = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.data.trim() || done.has(e) || !seen(e) || e.closest('.sr, .skip, .toast, :disabled')) continue;
    done.add(e);
    const s = getComputedStyle(e);
    const below = ground(e);
    const [a, b] = [light(rgb(s.color, below)), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (parseFloat(s.fontSize) >= 24 ? 3 : 4.5)) found.push('contrast ' + ratio.toFixed(2) + ': ' + n.data.trim().slice(0, 40) + ' in ' + e.outerHTML.slice(0, 80));
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push('wider than the screen of ' + innerWidth + ': ' + [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth && !e.closest('.scroll')).slice(0, 4).map((e) => e.outerHTML.slice(0, 100)).join(' | '));
  if (document.querySelectorAll('h1').length !== 1) found.push(document.querySelectorAll('h1').length + ' main headlines');
  return found;
})()`

// everybody looks at all views in both themes, and at the width of a phone.
func everybody(_ *fleet, b *tab) {
	for _, theme := range []string{"light", "dark"} {
		for _, size := range [][2]int64{{1280, 900}, {360, 740}} {
			b.do("resize", chromedp.EmulateViewport(size[0], size[1]), scheme(theme))
			for _, view := range []string{"", "jobs", "waiting", "wall", "hosts", "hosts/gpu-1", "hosts/gpu-2", "blocks", "workflows", "tenants", "dead", "system", "job/acme/cat-2"} {
				b.to(view)
				b.until("the view is read", `!document.querySelector('main [aria-busy]')`)
				for _, problem := range eval[[]string](b, problems) {
					b.t.Errorf("%s, %s, %d px: %s", view, theme, size[0], problem)
				}
			}
		}
	}
	b.do("back to the usual", chromedp.EmulateViewport(1280, 900), scheme("light"))
}
