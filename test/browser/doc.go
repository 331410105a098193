// Package browser tells the stories of the dashboard in a real browser: a fleet of simulated hosts, the page in Chromium, and what a
// viewer sees and does there. Without a browser on the machine its tests are skipped, which each of them says in one line.
package browser
