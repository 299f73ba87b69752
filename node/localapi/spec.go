package localapi

import _ "embed"

//go:embed openapi.yaml
var spec []byte

// Spec returns the OpenAPI 3.0 description of this API.
func Spec() []byte { return append([]byte(nil), spec...) }
