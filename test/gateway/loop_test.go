package gateway_test

import (
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

func TestAnAgentDoesNotTakeAGatewayForAComfyUI(t *testing.T) {
	t.Parallel()
	f := open(t)
	host, err := comfy.New(f.base+"/k/"+f.key, comfy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Survey(t.Context()); err == nil || !strings.Contains(err.Error(), "gateway") {
		t.Errorf("the gateway is a host: %v", err)
	}
}
