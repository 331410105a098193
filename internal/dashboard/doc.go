// Package dashboard is the fleet's page in a browser.
//
// Guarantee: the page shows what the calls of dispatchers answer and what COMFY_EVENTS has stored, and nothing else; a viewer who
// may only look changes nothing; a slow viewer delays nobody; without a viewer it does no work. Any number of dashboards may run
// beside one fleet, and a viewer may go from one to another without missing or repeating an event.
//
// The browser asks in three ways. Under /api/v1/<call> it makes the calls comfy.api.<call>, or those of one tenant. Under /live it
// receives events as they are stored, with their sequences as ids. Under /files/ it reads the files of COMFY_OUTPUTS.
//
// The files, in reading order:
//
//	dashboard     settings, Run, the server and its routes
//	assets        the page's own files: embedded, compressed once, with a hash in their path
//	join          the page's modules made one script, so that a browser asks once
//	guard         what every request must pass: host, origin, role; and the headers of every answer
//	roles         who may do what; passwords, tokens and the cookie after a login
//	login         the form for a password
//	bridge        /api/v1/<call>, and answers that many viewers share
//	hub, ring     the stored events that all viewers are sent, encoded once
//	rows          an event as the page receives it (rows of lists of jobs: job.Row)
//	live          /live: one stream for a viewer
//	running       progress and previews of running jobs
//	files         /files/<object>
//
// The page itself is in assets: app.js begins it, and each view is a module of its own in views/.
package dashboard
