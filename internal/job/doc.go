// Package job turns bytes into jobs and events and back, and events into what a list of jobs shows. No clock, no I/O.
//
// Guarantee: for any bytes Parse returns either a Job whose fields are all valid, or an *Invalid whose message says what
// to change.
//
// Jobs:
//
//	names.go        ids, tenants, lanes and priorities
//	job.go          a job, and what its publisher wishes
//	parse.go        bytes to a job (Parse): body.go, fields.go, datauri.go; advice.go: what to change in a body that is no job
//	reference.go    a job whose workflow is in a file
//	extradata.go    extra_data, which may hold secrets, is taken out of bodies and put back
//	traceparent.go  the trace of a job
//
// Events:
//
//	event.go        what has happened to a job; encode.go writes it, and jobs
//	stored.go       reads an event that any program may have stored
//	brief.go        decodes only the fields that a list of jobs shows; lean.go: an event without its long fields, for lists of events
//	signature.go    equal for dead jobs with the same reason and last failure
//
// Many events in one memory ([Fold]), for lists, pages and counts:
//
//	fold.go         events to rows, one a job; namepool.go keeps the names that rows share, and roworder.go their order
//	page.go         rows that a query wants; texts.go: by what people call jobs
//	counts.go       how many jobs are in each state; unfinished.go: how many have not ended, unseen.go: were cancelled before they came
//	workflowrows.go jobs by workflow; deadgroups.go: dead jobs by signature
//	busyhosts.go    how long each host ran jobs; hostattempts.go: the last attempts of each host
//	pace.go         what the jobs of a tenant used and waited
//	trend.go        events by time; timesteps.go: sums by time
package job
