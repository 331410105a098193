//go:build unix

package chaos_test

import (
	"encoding/json"
	"time"
)

// outputsStore is the stream of COMFY_OUTPUTS.
const outputsStore = "OBJ_COMFY_OUTPUTS"

const (
	fullOutputs  = 2000 // bytes: less than one picture with its data about it
	roomyOutputs = -1
)

// limitOutputs says how many bytes COMFY_OUTPUTS takes, and whether NATS has heard it. A store that is missing takes none
// and gets its limit from whoever makes it.
func (f *fleet) limitOutputs(most int) bool {
	var info struct {
		Config map[string]json.RawMessage `json:"config"`
		Error  *struct {
			Code int `json:"code"`
		} `json:"error"`
	}
	if !f.api("STREAM.INFO."+outputsStore, nil, &info) {
		return false
	}
	if info.Error != nil {
		return info.Error.Code == 404
	}
	info.Config["max_bytes"], info.Config["discard"] = encode(f.t, most), encode(f.t, "old")
	if most > 0 { // an operator who would rather have no result than lose another
		info.Config["discard"] = encode(f.t, "new")
	}
	return succeeded(f.nc, "$JS.API.STREAM.UPDATE."+outputsStore, encode(f.t, info.Config))
}

// dropOutputs deletes COMFY_OUTPUTS with all that is in it. Nothing is done when NATS is away.
func (f *fleet) dropOutputs() { succeeded(f.nc, "$JS.API.STREAM.DELETE."+outputsStore, nil) }

// api calls the JetStream API; false when there was no answer.
func (f *fleet) api(call string, ask []byte, answer any) bool {
	msg, err := f.nc.Request("$JS.API."+call, ask, time.Second)
	return err == nil && json.Unmarshal(msg.Data, answer) == nil
}
