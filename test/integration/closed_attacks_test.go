package integration_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// chainOf is the kinds of a job's events.
func (f *closed) chainOf(tenant, id string) string {
	f.t.Helper()
	return kinds(f.chain(jetstream.Receipt{Tenant: job.Tenant(tenant), Job: job.ID(id)}))
}

// runs publishes a job as a tenant and waits for its completion: what legitimate use looks like after an attack.
func (f *closed) runs(nc *nats.Conn, tenant, id string) {
	f.t.Helper()
	events := f.listen(nc, "comfy.events.jobs."+tenant+".>")
	f.publish(nc, tenant, job.Spec{ID: job.ID(id), Workflow: picture(0x102030)})
	f.next(events, "."+id+".completed")
	if err := events.Unsubscribe(); err != nil {
		f.t.Fatal(err)
	}
}

// Row 1: NATS does not check the reply subject, and JetStream publishes its answer there.
func TestATenantsReplySubjectReachesNobodyElse(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	acme, _ := f.tenant("acme")
	bolt, _ := f.tenant("bolt")
	hash := string(hashOf(t, picture(0x102030)))
	replies := []string{
		"comfy.events.jobs.acme.victim.cancelled", "comfy.append.jobs.acme.victim.cancelled",
		"$KV.COMFY_BLOCKS.gpu-1." + hash, "comfy.jobs.acme.9", "comfy.api.requeue", "comfy.dead.acme", "$JS.API.STREAM.DELETE.COMFY_JOBS",
	}
	for i, reply := range replies {
		msg := nats.NewMsg("comfy.jobs.bolt.5")
		msg.Reply = reply
		msg.Header.Set("Comfy-Job-Id", fmt.Sprint("attack-", i))
		msg.Data = envelope(t, job.Spec{Workflow: picture(0x010101 * (i + 1))})
		if err := bolt.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	for i := range replies { // stored, so the answers were sent
		f.end(jetstream.Receipt{Tenant: "bolt", Job: job.ID(fmt.Sprint("attack-", i))})
	}
	f.runs(acme, "acme", "victim")
	if got := f.chainOf("acme", "victim"); got != "queued started completed" {
		t.Errorf("the victim's chain is %s", got)
	}
	if err := f.q.Blocks(f.context(), func(c queue.Change[route.Block]) { t.Errorf("block %s: %+v", c.Key, c.Value) }); err != nil {
		t.Error(err)
	}
	err := f.q.DeadLetters(f.context(), "acme", time.Time{}, func(letter queue.DeadLetter) bool {
		t.Errorf("dead letter %+v", letter)
		return true
	})
	if err != nil {
		t.Error(err)
	}
	f.eventually("no job is left", func() bool { // the last one is acked after its end
		depth, err := f.q.Depth(f.context())
		return err == nil && len(depth) == 0
	})
}

// The rows about subjects outside of what was granted, and row 2 and 4 as a tenant: reading, cancelling, deliver_subject.
func TestATenantHasItsOwnSubjectsAndNoOthers(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	acme, _ := f.tenant("acme")
	bolt, refused := f.tenant("bolt")
	f.runs(acme, "acme", "secret")
	for _, subject := range []string{
		"comfy.jobs.acme.5", "comfy.jobs.bolt.5.x", "comfy.events.jobs.bolt.x.completed", "comfy.append.jobs.bolt.x.completed", "comfy.live.jobs.bolt.x.progress",
		"comfy.tenants.acme.cancel", "comfy.api.cancel", "comfy.api.tenants", "comfy.hosts.gpu-1.offer", "comfy.hosts.gpu-1.control", "comfy.dead.bolt",
		"$JS.API.INFO", "$JS.API.STREAM.INFO.COMFY_EVENTS", "$JS.API.DIRECT.GET.COMFY_EVENTS", "$JS.API.CONSUMER.CREATE.COMFY_DEAD.x.comfy.dead.bolt",
		"fleet.api.STREAM.INFO.COMFY_EVENTS", "fleet.api.DIRECT.GET.OBJ_COMFY_OUTPUTS", "$KV.COMFY_TENANTS.bolt", "$O.COMFY_OUTPUTS.C.x", "$JS.ACK.COMFY_JOBS.dispatch_5.1.1.1.1.0",
	} {
		if err := bolt.Publish(subject, []byte(`{"tenant":"acme","job":"secret"}`)); err != nil {
			t.Fatal(err)
		}
		f.refusal(refused, subject)
	}
	for _, subject := range []string{
		">", "comfy.>", "comfy.jobs.*.*", "comfy.events.>", "comfy.events.jobs.acme.>", "comfy.events.jobs.*.*.*", "comfy.live.jobs.acme.>",
		"comfy.hosts.*.state", "comfy.tenants.bolt.>", "comfy.api.>", "_INBOX_dispatcher.>", "_INBOX_operator.>", "_R_.>", "$SYS.>",
	} {
		if _, err := bolt.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		f.refusal(refused, subject)
	}
	f.runs(bolt, "bolt", "own")
	f.runs(acme, "acme", "after")
}

// Row 2: whoever may listen to _INBOX.> hears the answers to everybody of its account.
func TestNobodyHearsTheAnswersToOthers(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	acme, _ := f.tenant("acme")
	var ears []*nats.Subscription
	for _, creds := range []func() (string, error){
		func() (string, error) { return f.folder.Tenant("bolt", natsserver.TenantSettings{}) },
		func() (string, error) { return f.folder.Agent("gpu-2", natsserver.AgentSettings{}) },
		f.folder.Watcher,
	} {
		nc, _ := f.as(creds())
		ears = append(ears, f.listen(nc, "_INBOX.>"))
	}
	operator, refused := f.as(f.folder.Operator())
	for _, subject := range []string{"_INBOX.>", "_INBOX_dispatcher.>", ">"} {
		if _, err := operator.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		f.refusal(refused, subject)
	}
	for _, subject := range []string{ // secrets, and what only dispatchers do, who tell of it
		"comfy.hosts.gpu-1.control", "$JS.API.STREAM.MSG.DELETE.COMFY_DEAD", "$JS.API.STREAM.PURGE.COMFY_DEAD", "comfy.append.operator.cancel",
		"$JS.API.DIRECT.GET.KV_COMFY_SECRETS.$KV.COMFY_SECRETS.prompt", "$JS.API.DIRECT.GET.KV_COMFY_SECRETS", "$JS.API.STREAM.MSG.GET.KV_COMFY_SECRETS",
		"$JS.API.CONSUMER.CREATE.KV_COMFY_SECRETS.x", "$JS.API.CONSUMER.CREATE.KV_COMFY_SECRETS.x.$KV.COMFY_SECRETS.>", "$KV.COMFY_SECRETS.prompt",
		"$JS.API.CONSUMER.CREATE.COMFY_JOBS.dispatch_5", "$JS.API.CONSUMER.CREATE.COMFY_JOBS.dispatch_5.comfy.jobs.*.5", "$JS.API.CONSUMER.CREATE.COMFY_EVENTS.settle",
		"$KV.COMFY_GRANTS.gpu-1", "comfy.append.operator.cancel",
	} {
		if err := operator.Publish(subject, []byte(`{"last_by_subj":"$KV.COMFY_SECRETS.prompt"}`)); err != nil {
			t.Fatal(err)
		}
		f.refusal(refused, subject)
	}
	f.runs(acme, "acme", "whispered")
	for i, ear := range ears {
		if n, _, err := ear.Pending(); err != nil || n > 0 {
			t.Errorf("listener %d heard %d answers, %v", i, n, err)
		}
	}
	answer, err := operator.RequestWithContext(f.context(), "comfy.api.hosts", []byte("{}"))
	if err != nil || len(answer.Data) == 0 {
		t.Errorf("the operator is not answered: %v", err)
	}
}

// Row 3, as far as accounts close it: bytes of one's choice, sent anywhere by asking for them with a reply subject.
func TestAHostsKeyReachesNoOtherHostAndNoTenant(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	evil, refused := f.as(f.folder.Agent("gpu-2", natsserver.AgentSettings{}))
	before, _, err := f.q.Host(f.context(), "gpu-1")
	if err != nil {
		t.Fatal(err)
	}
	forged := envelope(t, job.Spec{Workflow: picture(0x666666)})
	if _, err := evil.RequestWithContext(f.context(), "fleet.api.$KV.COMFY_CAPABILITIES.gpu-2", forged); err != nil {
		t.Fatal(err)
	}
	targets := []string{"comfy.hosts.gpu-1.offer", "comfy.hosts.gpu-1.control", "$KV.COMFY_HOSTS.gpu-1", "$KV.COMFY_TENANTS.acme", "comfy.jobs.acme.9", "comfy.api.requeue"}
	answers := f.listen(evil, "_INBOX.x")
	for _, reply := range append(targets, "_INBOX.x") {
		if err := evil.PublishRequest("fleet.api.DIRECT.GET.KV_COMFY_CAPABILITIES.$KV.COMFY_CAPABILITIES.gpu-2", reply, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := answers.NextMsgWithContext(f.context()); err != nil || string(got.Data) != string(forged) {
		t.Fatalf("the last of the requests was answered %v, %v", got, err)
	}
	for _, subject := range append(targets, "fleet.api.$KV.COMFY_HOSTS.gpu-1", "fleet.api.$KV.COMFY_TENANTS.acme", "comfy.hosts.gpu-1.state", "comfy.append.hosts.gpu-1.offline",
		"comfy.events.hosts.gpu-1.offline", "fleet.api.CONSUMER.CREATE.COMFY_DEAD.x.comfy.dead.acme", "fleet.api.STREAM.PURGE.COMFY_JOBS", "fleet.api.STREAM.DELETE.COMFY_JOBS",
		"fleet.api.CONSUMER.MSG.NEXT.COMFY_JOBS.dispatch_5", "fleet.api.DIRECT.GET.COMFY_JOBS", "fleet.api.STREAM.MSG.GET.COMFY_JOBS", "fleet.api.DIRECT.GET.COMFY_DEAD",
		"fleet.api.DIRECT.GET.OBJ_COMFY_OUTPUTS", "fleet.api.DIRECT.GET.OBJ_COMFY_OUTPUTS.$O.COMFY_OUTPUTS.C.x",
		"fleet.api.DIRECT.GET.KV_COMFY_SECRETS.$KV.COMFY_SECRETS.files", "fleet.api.$KV.COMFY_SECRETS.prompt") {
		if err := evil.Publish(subject, forged); err != nil {
			t.Fatal(err)
		}
		f.refusal(refused, subject)
	}
	if ran := f.sims["gpu-1"].Runs(); len(ran) != 0 {
		t.Errorf("gpu-1 ran jobs that nobody published: %v", ran)
	}
	after, there, err := f.q.Host(f.context(), "gpu-1")
	if err != nil || !there || after.Instance != before.Instance || after.State != queue.Online {
		t.Errorf("gpu-1 is %+v, %v", after, err)
	}
	depth, err := f.q.Depth(f.context())
	if err != nil || len(depth) > 0 {
		t.Errorf("somebody has published for acme: %v, %v", depth, err)
	}
	acme, _ := f.tenant("acme")
	f.runs(acme, "acme", "after")
}

// A host that was given to tenants says nothing about the jobs of others.
func TestAHostOfSomeTenantsTellsNothingOfOthers(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	nc, refused := f.as(f.folder.Agent("gpu-2", natsserver.AgentSettings{Tenants: []string{"bolt", "carl"}}))
	for _, subject := range []string{
		"comfy.append.jobs.acme.j.completed", "fleet.api.DIRECT.GET.COMFY_EVENTS.comfy.events.jobs.acme.*.*",
	} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		f.refusal(refused, subject)
	}
	if _, err := nc.SubscribeSync("comfy.events.jobs.acme.*.*"); err != nil {
		t.Fatal(err)
	}
	f.refusal(refused, "comfy.events.jobs.acme.*.*")
	cancels := f.listen(nc, "comfy.events.jobs.*.*.cancelled")
	for _, tenant := range []job.Tenant{"acme", "bolt"} {
		if _, err := f.q.Cancel(f.context(), tenant, "c", "test", true); err != nil {
			t.Fatal(err)
		}
	}
	if msg, err := cancels.NextMsgWithContext(f.context()); err != nil || msg.Subject != "comfy.events.jobs.bolt.c.cancelled" {
		t.Errorf("the first cancel that the host hears is %v, %v", msg, err)
	}
	answer, err := nc.RequestWithContext(f.context(), "comfy.append.jobs.bolt.j.failed", []byte("{}"))
	if err != nil || len(answer.Data) == 0 {
		t.Errorf("bolt's event got %v", err)
	}
}

// Row 4: a consumer sends stored bytes anywhere. Nobody but dispatchers and operators may make one.
func TestNoOutsiderMakesConsumers(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	for name, creds := range map[string]func() (string, error){
		"tenant":  func() (string, error) { return f.folder.Tenant("bolt", natsserver.TenantSettings{}) },
		"agent":   func() (string, error) { return f.folder.Agent("gpu-2", natsserver.AgentSettings{}) },
		"watcher": f.folder.Watcher,
	} {
		nc, refused := f.as(creds())
		for _, prefix := range []string{"$JS.API.", natsserver.JetStreamPrefix + "."} {
			for _, call := range []string{"CONSUMER.CREATE.COMFY_DEAD.x.comfy.dead.bolt", "CONSUMER.DURABLE.CREATE.COMFY_DEAD.x", "CONSUMER.CREATE.COMFY_EVENTS"} {
				body := `{"stream_name":"COMFY_DEAD","config":{"deliver_subject":"comfy.hosts.gpu-1.control","ack_policy":"none"}}`
				if err := nc.Publish(prefix+call, []byte(body)); err != nil {
					t.Fatal(name, err)
				}
				f.refusal(refused, prefix+call)
			}
		}
	}
}

// An account that the operator's key has signed still gets no lane that was not granted to it.
func TestAnotherAccountCannotImportALane(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	acme, _ := f.tenant("acme")
	bolts, err := f.folder.Tenant("bolt", natsserver.TenantSettings{})
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string]*jwt.Import{}
	for _, tenant := range []string{"acme", "bolt"} {
		for _, one := range f.account("tenant-" + tenant).Imports {
			if one.Subject == jwt.Subject("comfy.jobs."+tenant+".*") {
				imports[tenant] = one
			}
		}
	}
	bare := &jwt.Import{Name: "bare", Subject: "comfy.jobs.acme.*", Account: imports["acme"].Account, Type: jwt.Service}
	stolen, wide := *imports["acme"], *bare
	wide.Token = imports["bolt"].Token
	for name, thief := range map[string]*jwt.Import{"no token": bare, "acme's token": &stolen, "bolt's token": &wide} {
		if err := f.steal(thief); !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("with %s: %v", name, err)
		}
	}
	f.runs(acme, "acme", "own")
	bolt, _ := f.as(bolts, nil)
	f.runs(bolt, "bolt", "own")
}

// account reads an account out of the folder.
func (f *closed) account(name string) *jwt.AccountClaims {
	f.t.Helper()
	files, err := filepath.Glob(filepath.Join(f.folder.Dir(), "accounts", "*.jwt"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.t.Fatal(err)
		}
		if claims, err := jwt.DecodeAccountClaims(string(text)); err == nil && claims.Name == name {
			return claims
		}
	}
	f.t.Fatalf("no account %s", name)
	return nil
}

// steal publishes to acme's lane as a user of a new account, signed by the operator, with one import. The server may
// refuse the whole account.
func (f *closed) steal(one *jwt.Import) error {
	f.t.Helper()
	seed, err := os.ReadFile(filepath.Join(f.folder.Dir(), "keys", "root.nk"))
	if err != nil {
		f.t.Fatal(err)
	}
	operator, err := nkeys.FromSeed(slices.Clone(seed[:len(seed)-1]))
	if err != nil {
		f.t.Fatal(err)
	}
	account, public := pair(f.t, nkeys.CreateAccount)
	user, userKey := pair(f.t, nkeys.CreateUser)
	claims := jwt.NewAccountClaims(public)
	claims.Imports.Add(one)
	token, err := claims.Encode(operator)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.folder.Dir(), "accounts", public+".jwt"), []byte(token), 0o600); err != nil {
		f.t.Fatal(err)
	}
	userToken, err := jwt.NewUserClaims(userKey).Encode(account)
	if err != nil {
		f.t.Fatal(err)
	}
	userSeed, err := user.Seed()
	if err != nil {
		f.t.Fatal(err)
	}
	nc, err := nats.Connect(f.url, nats.UserJWTAndSeed(userToken, string(userSeed)), nats.Timeout(10*time.Second))
	if err != nil {
		return err
	}
	defer nc.Close()
	_, err = nc.RequestWithContext(f.context(), "comfy.jobs.acme.5", []byte("{}"))
	return err
}

func pair(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	made, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := made.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return made, public
}
