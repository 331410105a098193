// Package job turns bytes into jobs and events and back, and events into what a list of jobs shows. No clock, no I/O.
//
// Guarantee: for any bytes Parse returns either a Job whose fields are all valid, or an *Invalid whose message says what
// to change.
//
// Jobs:
//
//	names.go        ids, tenants, lanes and priorities
//	job.go          a job, and what its publisher wishes
//	parse.go        bytes to a job (Parse): body.go, fields.go, datauri.go; advice.go: what to change in one that is none
//	reference.go    a job whose workflow is in a file
//	extradata.go    extra_data, which may hold secrets, is taken out of bodies and put back
//	traceparent.go  the trace of a job
//
// Events:
//
//	event.go        what has happened to a job; encode.go writes it, and jobs
//	stored.go       reads an event that any program may have stored
//	brief.go        reads only what lists tell; lean.go leaves out what they have no room for
//	signature.go    dead jobs that died in the same way
//
// Many events in one memory ([Fold]), for lists, pages and counts:
//
//	fold.go         events to rows, one a job; namepool.go keeps the names that rows share, and roworder.go their order
//	page.go         rows that a query wants; texts.go: by what people call jobs
//	counts.go       rows by state; unfinished.go, unseen.go: of these the ones that are not over, or were never received
//	workflowrows.go jobs by workflow; deadgroups.go: by what they died of
//	busyhosts.go    how long hosts ran jobs; hostattempts.go: which
//	pace.go         what the jobs of a tenant used and waited
//	trend.go        events by time; timesteps.go: sums by time
package job
