package gateway

import "net/http"

// mountV2 adds the routes of the Comfy API v2.
func (g *Gateway) mountV2(*http.ServeMux) {}

// v2Error answers an error in the form of the Comfy API v2.
func v2Error(w http.ResponseWriter, f *failed) {
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Details any    `json:"details"`
	}
	answerJSON(w, f.status, struct {
		Error body `json:"error"`
	}{body{f.code, f.text, nil}})
}
