package route_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	benchHashes  = 200
	benchTenants = 200
)

// kindOf is one of eight installations; hosts of kind k lack model k.
func kindOf(k int) workflow.Capability {
	var b workflow.CapabilityBuilder
	files := make([]string, 0, 1000)
	for m := range 1000 {
		if m != k {
			files = append(files, fmt.Sprintf("model-%d.safetensors", m))
		}
	}
	b.AddClass("KSampler")
	b.AddClass("Loader")
	b.AddChoices("Loader", "ckpt", files)
	return workflow.NewCapability(&b)
}

func needs(models ...int) workflow.Requirements {
	r := workflow.Requirements{Classes: []string{"KSampler", "Loader"}}
	for _, m := range models {
		r.Models = append(r.Models, workflow.ModelRef{Class: "Loader", Input: "ckpt", File: fmt.Sprintf("model-%d.safetensors", m)})
	}
	return r
}

// benchFleet has hosts of eight kinds, of which one in busy is idle (0 = all are idle), each warm for four
// hashes, 100 000 blocks over all pairs, half of them for one tenant, and 1 000 lanes.
func benchFleet(hosts, busy int, recent bool) *route.Fleet {
	f := route.NewFleet()
	for k := range 8 {
		f.PutCapability(route.HostID(fmt.Sprint("seed", k)), kindOf(k))
	}
	for h := range benchHashes {
		f.PutRequirements(hashOf(h), needs(h%40, 100+h%7, 200+h%3, 300))
	}
	for t := range benchTenants {
		f.PutTenant(tenant(t), 1, 0)
	}
	for i := range hosts {
		f.PutCapability(route.HostID(hostName(i)), kindOf(i%8))
	}
	benchHosts(f, hosts, busy, recent)
	benchBlocks(f, hosts)
	return f
}

// benchHosts sets the state of all hosts, which takes a tenth of the time of a new fleet.
func benchHosts(f *route.Fleet, hosts, busy int, recent bool) {
	for i := range hosts {
		s := online(hostName(i))
		s.Prefetch, s.Memory, s.Labels = 1, int64(8+8*(i%4))<<30, []string{fmt.Sprint("gpu=", i%4)}
		for k := range 4 {
			if recent {
				s.Recent = append(s.Recent, hashOf((i*7+k*13)%benchHashes))
			}
		}
		if busy > 0 && i%busy != 0 {
			s.Running = []route.Run{{Tenant: tenant(i % benchTenants), Job: route.JobID(fmt.Sprint("run", i)), Hash: hashOf(i % benchHashes), Since: noon}}
		}
		f.PutHost(s)
	}
}

func benchBlocks(f *route.Fleet, hosts int) {
	for i := range 100_000 {
		b := route.Block{
			Host: route.HostID(hostName(i % hosts)), Hash: hashOf(i / hosts % benchHashes * 17 % benchHashes), Kind: failure.HostLost,
			Tenants: []route.Tenant{route.Everyone}, Until: noon.Add(time.Hour),
		}
		if i/hosts >= benchHashes/2 { // few hosts: blocks of hashes that nobody asks for
			b.Hash = hashOf(1000 + i/hosts)
		}
		if i%3 == 0 {
			b.Tenants = []route.Tenant{tenant(i % benchTenants)}
		}
		f.PutBlock(b)
	}
}

func hostName(i int) string     { return fmt.Sprintf("host-%05d", i) }
func tenant(i int) route.Tenant { return route.Tenant(fmt.Sprint("tenant-", i)) }

func BenchmarkChoose(b *testing.B) {
	for _, hosts := range []int{10, 100, 1000, 10_000} {
		f := benchFleet(hosts, 0, false)
		for _, busy := range []int{0, 10, 100} {
			for _, recent := range []bool{false, true} {
				if busy < hosts {
					b.Run(fmt.Sprintf("hosts=%d/idle=1in%d/warm=%t", hosts, max(busy, 1), recent), func(b *testing.B) {
						benchHosts(f, hosts, busy, recent)
						benchChoose(b, f)
					})
				}
			}
		}
	}
}

// BenchmarkChooseToHold has no idle host: a job is held for the one that is free first.
func BenchmarkChooseToHold(b *testing.B) {
	for _, hosts := range []int{10, 1000, 10_000} {
		f := route.NewFleet()
		for h := range benchHashes {
			f.ObserveRun(hashOf(h), "x", time.Duration(30+h)*time.Millisecond)
		}
		for i := range hosts {
			s := online(hostName(i))
			s.Prefetch = 1
			s.Running = []route.Run{{Tenant: tenant(i % benchTenants), Job: route.JobID(fmt.Sprint("run", i)), Hash: hashOf(i % benchHashes), Since: noon.Add(time.Duration(i) * time.Microsecond)}}
			f.PutHost(s)
		}
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) { benchChoose(b, f) })
	}
}

// benchWants are jobs of all workflows and tenants; each was asked for once, so that its workflow is known.
func benchWants(f *route.Fleet) []route.Want {
	wants := make([]route.Want, 1000)
	for i := range wants {
		wants[i] = route.Want{Hash: hashOf(i % benchHashes), Tenant: tenant(i % benchTenants), Priority: i % 5}
		if i%10 == 0 {
			wants[i].Exclude = []string{"gpu=1"}
		}
	}
	for _, w := range wants {
		f.Choose(w, noon)
	}
	return wants
}

func benchChoose(b *testing.B, f *route.Fleet) {
	b.Helper()
	wants := benchWants(f)
	b.ReportAllocs()
	i, found := 0, 0
	for b.Loop() {
		if _, ok := f.Choose(wants[i%len(wants)], noon); ok {
			found++
		}
		i++
	}
	if found != i {
		b.Fatalf("%d of %d found a host", found, i)
	}
}

// BenchmarkPutHost takes in a host's reports at the start and at the end of each job, which was offered from here before.
func BenchmarkPutHost(b *testing.B) {
	f := benchFleet(100, 0, true)
	states := make([]route.HostState, 100)
	for i := range states {
		states[i] = online(hostName(i))
		states[i].Recent = []workflow.Hash{hashOf(1), hashOf(2), hashOf(3), hashOf(4)}
		f.PutHost(states[i])
	}
	running := make([]route.Run, 1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s := &states[i%len(states)]
		running[0] = route.Run{Tenant: tenant(i % 4), Job: "job", Priority: 5, Hash: s.Recent[i%2], Since: noon}
		f.Occupy(s.ID, running[0])
		s.Running = running
		f.PutHost(*s)
		f.Release(s.ID, running[0].Tenant, "job")
		s.Running = nil
		f.PutHost(*s)
		i++
	}
}
