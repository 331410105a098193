// Package comfy drives one ComfyUI host over HTTP and websocket.
//
// It guarantees that [Host.Run] ends every prompt exactly one way, a [Result]
// or a [failure.Failure] of the closed set of kinds, whatever the host does:
// die, freeze, restart, lose its websocket, forget its history, answer late,
// or refuse with any of the bodies that ComfyUI 0.3 to 0.33 refuse with; that
// one prompt is never sent twice while the first copy may still run; that
// nothing which belongs to another user of the host is ever interrupted; and
// that no bytes of a workflow are re-encoded on the way (64-bit seeds).
//
// How: HTTP is the truth and the websocket a hint. [Host.Listen] holds one
// socket with a client id of its own and hands each event to the prompt that
// it names; Run posts, then looks its prompt up by id (/api/jobs/{id}, or
// /queue and then /history on servers that lack it) every PollInterval and at
// once when an event says that something ended. A socket that is deaf, stalled
// or absent costs at most one PollInterval, never a result.
//
// Kinds are decided by evidence: the status and shape of an answer, the type of
// an exception, the beginning of a message where torch or the system writes it,
// and facts about the process (raised.go, refused.go, sick.go, witness.go). What
// a user can write decides nothing. What ComfyUI's cache names is delivered only
// when it is proven to be what this prompt computes (prove.go); what comes over
// the websocket only is kept (pictures.go).
//
// Every answer is read with a bound, and bare NaN and Infinity, which Python
// writes and JSON does not know, count as null everywhere.
package comfy
