// Package comfy drives one ComfyUI host over HTTP and websocket.
//
// It guarantees that [Host.Run] ends every prompt exactly one way, with a [Result] or a [failure.Failure] of the closed set
// of kinds, whatever the host does: it may die, freeze, restart, lose its websocket, lose its history, answer late, or
// refuse with any body that ComfyUI 0.3 to 0.33 sends. One prompt is never sent twice while the first copy may still run,
// no prompt of another user is ever interrupted, and the bytes of a workflow are sent as they are (64-bit seeds).
//
// How a prompt has ended is decided by ComfyUI's record of it, which is read over HTTP. An event of the websocket makes Run read it
// sooner, and the events decide only when the record is gone. [Host.Listen] keeps one socket open and gives each event to the
// prompt that it names. A prompt's way from Run to its outcome, in the order of the files:
//
//	prompt.go     what is given to Run, and what it returns
//	run.go        the loop: one thing at a time, until the prompt has ended
//	submit.go     POST /prompt, and a lookup when its answer is lost
//	refusal.go    a refusal becomes a kind
//	track.go      events of the websocket (socket.go, frame.go) about this prompt
//	worker.go     which prompt ComfyUI runs: one that waited is not blamed for a lost host
//	poll.go       the prompt is looked up every PollInterval, and at once after an event that something ended
//	lookup.go     /api/jobs/{id}, or /queue and then /history on servers without it
//	limits.go     timeouts, a host that gives no answer, and a worker thread that may be dead (sick.go, threads.go)
//	ending.go     the host's record becomes a result or a failure
//	exception.go  an exception of a node becomes a kind
//	outputs.go    files and texts of the record; pictures.go for pictures that came over the websocket
//	prove.go      files that ComfyUI's cache names are delivered only when they are proven to be this prompt's
//	files.go      results are read and inputs written
//
// Without a working websocket a prompt costs at most one PollInterval more.
//
// Kinds are decided by facts: the status and shape of an answer, the type of an exception, the beginning of a message
// where torch or the system writes it, and the state of the process. What a user can write has no influence.
//
// Beside Run there are: cancel.go, clear.go (removes a prompt's files; roots.go), capability.go (what the host can run),
// routes.go (GETs that are passed on), relay.go (messages of the websocket that are passed on), and the probes of its
// health (health.go, probes.go, process.go).
//
// Every answer is read with a bound. NaN and Infinity, which Python writes and JSON lacks, count as null everywhere
// (pythonjson.go).
package comfy
