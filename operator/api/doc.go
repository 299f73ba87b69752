// Package api is the operator's HTTP: enrolment for nodes, administration for people and other software.
//
//	/v1/enroll, /v1/renew, /v1/bundle   public, on the HTTPS port; types in protocol/enrol
//	/admin/v1/…                         on the HTTPS port with "Authorization: Bearer culvert-api-1-…", and without a key on
//	                                    DIR/admin.sock, which admits the operator's own user and root only
//
// openapi.yaml describes it; a test holds the routes equal to it. A key made for one domain sees and touches only that domain:
// everything else is "not found" to it. Lists are paged: ask again with ?after= and the answer's "next" until there is none.
// An error is {"error": {"code", "message"}}, of a bulk registration with "rows": [{"row", "message"}].
//
// Everything that comes in is bounded: size, time, connections, and requests of one address. The same handler serves the
// command line in its own process while no operator runs ([InProcess]).
package api
