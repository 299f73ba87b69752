// Package enrol is a node's side of enrolment over HTTPS: join with a token, renew the certificate, fetch the trust bundle.
//
// The operator is recognised by the root key's hash alone ([enrol.VerifyServer]); the system's CAs are not asked. Every answer
// is verified before it is returned: chain, certificate, keys and domain. Requests have time-outs, answers have a size
// limit, redirects are not followed, a proxy named by the environment is used.
//
//	token, err := enrol.ParseToken(text)
//	client := New(Config{Address: token.Address, Root: token.Root})
//	m, err := client.Join(ctx, token, keys, "desk-7")
//	…
//	m, err = client.Renew(ctx, m.Node.ID, keys)
package enrol
