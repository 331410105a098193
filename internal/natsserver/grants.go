package natsserver

import (
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// JetStreamPrefix is what JetStream's API is called in the account of a host or of watchers, where $JS.API is taken: it
// says that the account has no JetStream.
const JetStreamPrefix = "fleet.api"

// A host may answer a request for so long, and in so many messages. Both are for pages of ComfyUI: offers are answered once and at once.
const (
	answerTime   = 30 * time.Second
	answerPieces = 64
)

// grant is a subject of the fleet that an account may use: publish to (a service) or subscribe to (a stream).
type grant struct {
	subject string
	local   string // the subject in the account that uses it; empty: the same
	stream  bool
	answers bool // a service that may answer with more than one message
}

func (g grant) kind() jwt.ExportType {
	if g.stream {
		return jwt.Stream
	}
	return jwt.Service
}

// name is the subject that the account's users use.
func (g grant) name() string {
	if g.local != "" {
		return g.local
	}
	return g.subject
}

// exported are all subjects that the fleet's account exports. An account needs a token to import one, or a part of one.
var exported = []grant{
	{subject: names.LanesSubject("*")},
	{subject: names.TenantPrefix + "*.>", answers: true},
	{subject: names.Appends},
	{subject: names.Tells},
	{subject: names.HostStates},
	{subject: names.KeySubject(names.HostsBucket, "*")},
	{subject: names.KeySubject(names.CapabilitiesBucket, "*")},
	{subject: names.KeySubject(names.ConditionsBucket, "*")},
	{subject: names.KeySubject(names.CatalogsBucket, "*")},
	{subject: "$O." + names.OutputsStore + ".>"},
	{subject: "$O." + names.CatalogStore + ".>"},
	{subject: "$JS.ACK." + names.JobsStream + ".>"},
	{subject: "$JS.API.INFO"},
	{subject: "$JS.API.STREAM.INFO.*"},
	{subject: "$JS.API.CONSUMER.INFO." + names.JobsStream + ".*"},
	{subject: "$JS.API.DIRECT.GET.>", answers: true},
	{subject: "$JS.API.STREAM.MSG.GET." + names.EventsStream},
	{subject: names.AllEvents, stream: true},
	{subject: names.AllLive, stream: true},
}

// tenantSubjects: a tenant publishes to its lanes, makes calls in its name, and follows the stored and live events of its jobs.
func tenantSubjects(tenant string) []grant {
	return []grant{
		{subject: names.LanesSubject(job.Tenant(tenant))},
		{subject: names.TenantPrefix + tenant + ".>", answers: true},
		{subject: names.JobEventsPrefix + tenant + ".>", stream: true},
		{subject: names.LivePrefix + tenant + ".>", stream: true},
	}
}

// hostSubjects: what the agent of one host does. It may publish the ends and the progress of its tenants' jobs; of all tenants' jobs when
// it has no tenants.
func hostSubjects(host string, tenants []string) []grant {
	own := []grant{
		{subject: names.AppendSubject(names.HostEventsPrefix + host + ".*")},
		{subject: names.StateSubject(host)},
		put(names.HostsBucket, host),
		put(names.CapabilitiesBucket, host),
		put(names.ConditionsBucket, host),
		put(names.CatalogsBucket, host),
		{subject: names.PartsSubject(names.OutputsStore, "*")},
		{subject: names.MetaPrefix(names.OutputsStore) + "*"},
		{subject: names.PartsSubject(names.CatalogStore, "*")},
		{subject: names.MetaPrefix(names.CatalogStore) + "*"},
		{subject: "$JS.ACK." + names.JobsStream + ".>"},
		api("INFO"), api("STREAM.INFO.*"), api("CONSUMER.INFO." + names.JobsStream + "." + names.DispatchConsumer(job.Usual)),
		get(names.EventsStream), leaderGet(names.EventsStream), // a whole chain, whose job the body of the request names
		getOf(names.EventsStream, names.HostEventsPrefix+host+".*"),
		getKey(names.HostsBucket, host),
		getKey(names.CapabilitiesBucket, host),
		getKey(names.ConditionsBucket, host),
		getKey(names.CatalogsBucket, host),
		getKey(names.SecretsBucket, "prompt"),
		get(names.StoreStream(names.InputsStore)), getFiles(names.InputsStore),
		getFiles(names.OutputsStore), // to replace a file of the same name
		getFiles(names.CatalogStore), // to store no file that is there
	}
	if len(tenants) == 0 {
		tenants = []string{"*"}
	}
	for _, tenant := range tenants {
		jobs := tenant + ".*"
		for _, kind := range []string{"started", "completed", "failed"} {
			own = append(own, grant{subject: names.AppendSubject(names.JobEventsPrefix + jobs + "." + kind)})
		}
		own = append(own,
			grant{subject: names.TellSubject(job.Tenant(tenant), "*", "*")},
			getKey(names.APIKeysBucket, tenant+".*"),
			grant{subject: names.JobEventsPrefix + jobs + ".*", stream: true},
			getOf(names.EventsStream, names.JobEventsPrefix+jobs+".*"),
		)
	}
	return own
}

// watcherSubjects: a watcher reads every event, and does nothing else.
func watcherSubjects() []grant {
	return []grant{
		{subject: names.AllEvents, stream: true},
		{subject: names.AllLive, stream: true},
		api("INFO"), api("STREAM.INFO.*"), api("CONSUMER.INFO." + names.JobsStream + "." + names.DispatchConsumer(job.Usual)),
		get(names.EventsStream), getOf(names.EventsStream, ">"), leaderGet(names.EventsStream),
	}
}

func api(call string) grant {
	return grant{subject: "$JS.API." + call, local: JetStreamPrefix + "." + call}
}

// put writes a key of a bucket.
func put(bucket, key string) grant {
	subject := names.KeySubject(bucket, key)
	return grant{subject: subject, local: JetStreamPrefix + "." + subject}
}

// getOf reads the last message of subjects of a stream.
func getOf(stream, subjects string) grant { return get(stream + "." + subjects) }

// getKey reads a key of a bucket.
func getKey(bucket, key string) grant {
	return getOf(names.BucketStream(bucket), names.KeySubject(bucket, key))
}

// getFiles reads the descriptions of the files of an object store.
func getFiles(store string) grant {
	return getOf(names.StoreStream(store), names.MetaPrefix(store)+"*")
}

// get reads stored messages of a stream by direct gets, of which one may ask for several.
func get(what string) grant {
	g := api("DIRECT.GET." + what)
	g.answers = true
	return g
}

// leaderGet reads from the leader of a stream that has several copies, which has every stored message; a copy may be behind.
func leaderGet(stream string) grant { return api("STREAM.MSG.GET." + stream) }

// offered are the subjects that a host serves to the fleet.
func offered(host string) []grant {
	return []grant{{subject: names.OfferSubject(host)}, {subject: names.ControlSubject(host)}, {subject: names.HTTPSubject(host), answers: true}}
}

// permitted are the permissions of the users of an account: exactly its grants, so that NATS reports a wrong subject as an error
// instead of dropping the message.
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
		p.Resp = &jwt.ResponsePermission{MaxMsgs: answerPieces, Expires: answerTime}
	}
	return p
}

// Inbox prefixes of the users who share the fleet's account.
const (
	dispatcherInbox = "_INBOX_dispatcher"
	operatorInbox   = "_INBOX_operator"
	gatewayInbox    = "_INBOX_gateway"
)

// dispatcherPermissions: a dispatcher makes the streams, so it may do everything in the account. Its answers come to an inbox of its
// own, to which neither an operator nor a gateway may subscribe.
func dispatcherPermissions() jwt.Permissions {
	var p jwt.Permissions
	p.Pub.Allow.Add(">")
	p.Sub.Allow.Add(">")
	p.Sub.Deny.Add(operatorInbox+".>", gatewayInbox+".>")
	return p
}

// operatorPermissions: an operator makes calls, reads and publishes jobs. Changes of the fleet go through calls, which dispatchers
// record. The permissions are in the token, which is sent in one line of at most 4096 bytes when connecting, so they must stay short.
func operatorPermissions() jwt.Permissions {
	const api, next, remove, create = "$JS.API.", "$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.CONSUMER.DELETE.", "$JS.API.CONSUMER.CREATE."
	var p jwt.Permissions
	p.Pub.Allow.Add(
		names.APIPrefix+">", names.TenantPrefix+">", names.LanesSubject("*"), "$SRV.>",
		api+"INFO", api+"STREAM.INFO.*", api+"STREAM.LIST", api+"STREAM.NAMES", api+"STREAM.MSG.GET.*",
		api+"DIRECT.GET.>", api+"CONSUMER.INFO.*.*", create+"*.*.>", create+"*.*", next+"*.*", remove+"*.*", "$JS.FC.>",
		"$O."+names.InputsStore+".>", api+"STREAM.PURGE."+names.StoreStream(names.InputsStore),
	)
	ofDispatchers := []string{
		names.EventsStream + "." + names.SettleConsumer,
		names.EventsStream + "." + names.TallyConsumer,
		names.BucketStream(names.BlocksBucket) + "." + names.AnnounceConsumer,
	}
	for _, own := range ofDispatchers {
		p.Pub.Deny.Add(next+own, remove+own)
	}
	for _, own := range ofDispatchers { // an operator must not change these consumers either
		p.Pub.Deny.Add(create+own, create+own+".>")
	}
	for _, bucket := range []string{names.SecretsBucket, names.APIKeysBucket} {
		secrets := names.BucketStream(bucket)
		p.Pub.Deny.Add(api+"DIRECT.GET."+secrets, api+"DIRECT.GET."+secrets+".>", api+"STREAM.MSG.GET."+secrets,
			create+secrets+".*", create+secrets+".*.>", next+secrets+".*")
	}
	p.Pub.Deny.Add(next+names.JobsStream+".*", remove+names.JobsStream+".*", create+names.JobsStream+".>")
	p.Sub.Allow.Add(operatorInbox+".>", names.AllEvents, names.AllLive, names.HostStates)
	return p
}
