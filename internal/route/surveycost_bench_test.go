package route_test

import (
	"fmt"
	"testing"

	"github.com/comfyherd/comfyherd/internal/route"
)

// BenchmarkSurvey counts 1 000 hosts, 40 000 blocks and 100 000 tickets of 1 000 workflows.
func BenchmarkSurvey(b *testing.B) {
	f, r := route.NewFleet(), route.NewRoom()
	for i := range 1000 {
		f.PutHost(online(hostName(i)))
		for k := range 40 {
			f.PutBlock(block(hostName(i), (i+k)%1000))
		}
	}
	for i := range 100_000 {
		t := ticket(uint64(i+1), fmt.Sprint("tenant-", i%20), 5)
		t.Hash = hashOf(i % 1000)
		r.Put(t)
	}
	for b.Loop() {
		r.Survey(f, route.SurveyOptions{}, noon, always)
	}
}
