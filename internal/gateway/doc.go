// Package gateway lets programs that were written for ComfyUI use the fleet: it serves ComfyUI's own HTTP API and websocket, and the
// Comfy API v2, over the jobs of one tenant each.
//
// Guarantee: an id for which POST /prompt was answered 200 is in the queue or in the history at every moment from then on, on
// every gateway, through retries, waiting, fail-over and restarts, until its events are too old to be kept. A job's history is
// complete before a client receives that the job has ended. A failed attempt that is retried never shows an end. No client
// receives anything of another tenant.
//
// A gateway keeps no state of its own. What it answers comes from NATS: the unfinished jobs (COMFY_JOBS), the events of jobs
// (COMFY_EVENTS), the files (COMFY_INPUTS, COMFY_OUTPUTS), what hosts answer about themselves (COMFY_CATALOGS), and what clients
// keep (COMFY_ASSETS, COMFY_USERDATA, COMFY_HIDDEN). So any number of gateways serve one fleet, and each answers for the jobs that
// came through another. A gateway that is killed loses its connections, and at most the bodies of prompts that it has just taken,
// so that their graphs are not shown after their end. See Rows for how two gateways agree about a job that was submitted a moment
// ago.
//
// The files, in reading order:
//
//	gateway, mux                   Config, New, Run; which handler serves which path
//	metrics                        what it counts
//	keys, origin, errors           whose request it is, whether a browser may send it, and how errors look
//	tenant, rows, row, hidden      one tenant's jobs as rows, kept up to date from events
//	submit                         POST /prompt is answered, and an id made (postPrompt)
//	prompt, inputs, body           its body is read; the files that it names are stored; the body is kept for the history
//	bodies, doubts                 bodies that are being stored; rows of jobs that have no event
//	lacking, knownrunnable         what no host has that a prompt needs; workflows that can run, as the fleet said lately
//	queues, history, outputs       the queue, the history, and where clients find files
//	comfyjobs, cloud               /api/jobs, and the paths of Comfy Cloud
//	hub, ends, frames, socket      websockets, and what is sent to which
//	view, upload, picture, timed   files, and clients that stop sending or reading
//	catalog, merge, page, cache    all hosts as one ComfyUI
//	objectinfo, uploads            its nodes, with what the tenant has uploaded
//	united, below                  translations, workflows and subgraphs of all hosts, and the scripts of their node packs
//	tunnel, anyhost, etn           what is asked of a host that has it
//	userdata, info, frontend       what ComfyUI's page keeps and asks for, and the page itself
//	json, python, pieces           JSON as Python reads and writes it, and large answers
//	v2*, assets*, live             the Comfy API v2
package gateway
