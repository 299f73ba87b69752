package api

// The generator is named by version, not by go.mod: nothing but this line needs it. The second command notes what the
// generated file was made from, which a test compares without network.

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config oapi-codegen.yaml ../../localapi/openapi.yaml
//go:generate go test -count=1 -run ^TestGeneratedFromThisSpec$ . -update
