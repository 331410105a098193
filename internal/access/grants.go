package access

import (
	"time"

	"github.com/nats-io/jwt/v2"
)

// JetStreamPrefix is what JetStream's API is called in the account of a host or of watchers, where $JS.API is taken: it
// says that the account has no JetStream.
const JetStreamPrefix = "fleet.api"

// appendPrefix is where events are published to, to be stored.
const appendPrefix = "comfy.append."

// cancels are the events that every agent listens to.
const cancels = "comfy.events.jobs.*.*.cancelled"

// answerTime is how long a host may take to answer an offer; who offered waits no longer.
const answerTime = 5 * time.Second

// grant is a subject of the fleet that an account may use: publish to (a service) or subscribe to (a stream).
type grant struct {
	subject string
	local   string // what the account calls it; empty: the same
	stream  bool
	answers bool // a service that may answer with more than one message
}

func (g grant) kind() jwt.ExportType {
	if g.stream {
		return jwt.Stream
	}
	return jwt.Service
}

// name is what the account's users say.
func (g grant) name() string {
	if g.local != "" {
		return g.local
	}
	return g.subject
}

// exported is all that the fleet's account offers to others, each to those who have a token for a part of it.
var exported = []grant{
	{subject: "comfy.jobs.*.*"},
	{subject: "comfy.tenants.*.>", answers: true},
	{subject: appendPrefix + ">"},
	{subject: "comfy.tell.>"},
	{subject: "comfy.hosts.*.state"},
	{subject: "$KV.COMFY_HOSTS.*"},
	{subject: "$KV.COMFY_CAPABILITIES.*"},
	{subject: "$KV.COMFY_CONDITIONS.*"},
	{subject: "$O.COMFY_OUTPUTS.>"},
	{subject: "$JS.ACK.COMFY_JOBS.>"},
	{subject: "$JS.API.INFO"},
	{subject: "$JS.API.STREAM.INFO.*"},
	{subject: "$JS.API.CONSUMER.INFO.COMFY_JOBS.*"},
	{subject: "$JS.API.DIRECT.GET.>", answers: true},
	{subject: "$JS.API.STREAM.MSG.GET.COMFY_EVENTS"},
	{subject: "comfy.events.>", stream: true},
	{subject: "comfy.live.>", stream: true},
}

// tenantGrants: publish to its lanes, call for its own jobs, follow its own stored and live events.
func tenantGrants(tenant string) []grant {
	return []grant{
		{subject: "comfy.jobs." + tenant + ".*"},
		{subject: "comfy.tenants." + tenant + ".>", answers: true},
		{subject: "comfy.events.jobs." + tenant + ".>", stream: true},
		{subject: "comfy.live.jobs." + tenant + ".>", stream: true},
	}
}

// hostGrants: what the agent of one host does. Of jobs it may tell the ends and the progress of those of its tenants,
// or of every tenant's when it is given to none.
func hostGrants(host string, tenants []string) []grant {
	own := []grant{
		{subject: appendPrefix + "hosts." + host + ".*"},
		{subject: "comfy.hosts." + host + ".state"},
		{subject: "$KV.COMFY_HOSTS." + host, local: JetStreamPrefix + ".$KV.COMFY_HOSTS." + host},
		{subject: "$KV.COMFY_CAPABILITIES." + host, local: JetStreamPrefix + ".$KV.COMFY_CAPABILITIES." + host},
		{subject: "$KV.COMFY_CONDITIONS." + host, local: JetStreamPrefix + ".$KV.COMFY_CONDITIONS." + host},
		{subject: "$O.COMFY_OUTPUTS.C.*"},
		{subject: "$O.COMFY_OUTPUTS.M.*"},
		{subject: "$JS.ACK.COMFY_JOBS.>"},
		api("INFO"), api("STREAM.INFO.*"), api("CONSUMER.INFO.COMFY_JOBS.dispatch_5"),
		get("COMFY_EVENTS"), leaderGet("COMFY_EVENTS"), // a whole chain: the request's body says whose
		get("COMFY_EVENTS.comfy.events.hosts." + host + ".*"),
		get("KV_COMFY_HOSTS.$KV.COMFY_HOSTS." + host),
		get("KV_COMFY_CAPABILITIES.$KV.COMFY_CAPABILITIES." + host),
		get("KV_COMFY_CONDITIONS.$KV.COMFY_CONDITIONS." + host),
		get("KV_COMFY_SECRETS.$KV.COMFY_SECRETS.prompt"),
		get("OBJ_COMFY_INPUTS"), get("OBJ_COMFY_INPUTS.$O.COMFY_INPUTS.M.*"),
		get("OBJ_COMFY_OUTPUTS.$O.COMFY_OUTPUTS.M.*"), // to replace a file of the same name
	}
	if len(tenants) == 0 {
		tenants = []string{"*"}
	}
	for _, tenant := range tenants {
		jobs := tenant + ".*"
		for _, kind := range []string{"started", "completed", "failed"} {
			own = append(own, grant{subject: appendPrefix + "jobs." + jobs + "." + kind})
		}
		own = append(own,
			grant{subject: "comfy.tell.jobs." + jobs + ".*"},
			grant{subject: "comfy.events.jobs." + jobs + ".*", stream: true},
			get("COMFY_EVENTS.comfy.events.jobs."+jobs+".*"),
		)
	}
	return own
}

// watcherGrants: read every event, and nothing else.
func watcherGrants() []grant {
	return []grant{
		{subject: "comfy.events.>", stream: true},
		{subject: "comfy.live.>", stream: true},
		api("INFO"), api("STREAM.INFO.*"), api("CONSUMER.INFO.COMFY_JOBS.dispatch_5"),
		get("COMFY_EVENTS"), get("COMFY_EVENTS.>"), leaderGet("COMFY_EVENTS"),
	}
}

func api(call string) grant {
	return grant{subject: "$JS.API." + call, local: JetStreamPrefix + "." + call}
}

// get reads stored messages. A request may ask for several.
func get(what string) grant {
	g := api("DIRECT.GET." + what)
	g.answers = true
	return g
}

// leaderGet reads from the leader of a stream that has several copies: what has just been stored is there already.
func leaderGet(stream string) grant { return api("STREAM.MSG.GET." + stream) }

// offered is what a host serves to the fleet.
func offered(host string) []grant {
	return []grant{{subject: "comfy.hosts." + host + ".offer"}, {subject: "comfy.hosts." + host + ".control"}}
}

// permitted are the permissions of the users of an account: nothing but what it was granted, so that a
// mistake is told and not lost.
func permitted(grants []grant, serves []grant) jwt.Permissions {
	var p jwt.Permissions
	p.Sub.Allow.Add("_INBOX.>")
	for _, g := range grants {
		if g.stream {
			p.Sub.Allow.Add(g.name())
		} else {
			p.Pub.Allow.Add(g.name())
		}
	}
	for _, g := range serves {
		p.Sub.Allow.Add(g.subject)
	}
	if len(serves) > 0 {
		p.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: answerTime}
	}
	return p
}

// Inboxes of those who share the fleet's account.
const (
	dispatcherInbox = "_INBOX_dispatcher"
	operatorInbox   = "_INBOX_operator"
)

// dispatcherPermissions: a dispatcher makes the streams, so it may do all that the account can. Its answers come to an
// inbox of its own, which no operator may listen to.
func dispatcherPermissions() jwt.Permissions {
	var p jwt.Permissions
	p.Pub.Allow.Add(">")
	p.Sub.Allow.Add(">")
	p.Sub.Deny.Add(operatorInbox + ".>")
	return p
}

// operatorPermissions: ask, read and publish. What changes the fleet goes through the dispatchers, who tell of it. They stand in
// the token that is sent in one line when connecting, of at most 4096 bytes.
func operatorPermissions() jwt.Permissions {
	var p jwt.Permissions
	p.Pub.Allow.Add(
		"comfy.api.>", "comfy.tenants.>", "comfy.jobs.*.*", "$SRV.>",
		"$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.MSG.GET.*",
		"$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.INFO.*.*", "$JS.API.CONSUMER.CREATE.*.*.>", "$JS.API.CONSUMER.CREATE.*.*",
		"$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.API.CONSUMER.DELETE.*.*", "$JS.FC.>",
		"$O.COMFY_INPUTS.>", "$JS.API.STREAM.PURGE.OBJ_COMFY_INPUTS",
	)
	p.Pub.Deny.Add("$JS.API.CONSUMER.MSG.NEXT.COMFY_EVENTS.settle", "$JS.API.CONSUMER.DELETE.COMFY_EVENTS.settle",
		"$JS.API.CONSUMER.MSG.NEXT.KV_COMFY_BLOCKS.announce", "$JS.API.CONSUMER.DELETE.KV_COMFY_BLOCKS.announce")
	for _, own := range []string{"COMFY_EVENTS.settle", "KV_COMFY_BLOCKS.announce"} { // nor change what dispatchers read by
		p.Pub.Deny.Add("$JS.API.CONSUMER.CREATE."+own, "$JS.API.CONSUMER.CREATE."+own+".>")
	}
	p.Pub.Deny.Add( // the fleet's secrets
		"$JS.API.DIRECT.GET.KV_COMFY_SECRETS", "$JS.API.DIRECT.GET.KV_COMFY_SECRETS.>", "$JS.API.STREAM.MSG.GET.KV_COMFY_SECRETS",
		"$JS.API.CONSUMER.CREATE.KV_COMFY_SECRETS.*", "$JS.API.CONSUMER.CREATE.KV_COMFY_SECRETS.*.>", "$JS.API.CONSUMER.MSG.NEXT.KV_COMFY_SECRETS.*",
	)
	p.Pub.Deny.Add("$JS.API.CONSUMER.MSG.NEXT.COMFY_JOBS.*", "$JS.API.CONSUMER.DELETE.COMFY_JOBS.*", "$JS.API.CONSUMER.CREATE.COMFY_JOBS.>")
	p.Sub.Allow.Add(operatorInbox+".>", "comfy.events.>", "comfy.live.>", "comfy.hosts.*.state")
	return p
}
