package main

const chainHelp = `A hop of a chain of services. It calls its upstreams and answers with its own name and version, followed by their answers:

  frontend-v1 -> middleware-canary -> backend-v1 -> 2026-01-02T15:04:05Z

With "Accept: application/json" the answer is a tree. A request with the header "fail: 0.3" fails here, with status 500, with the
probability 0.3. Passed on: x-request-id, traceparent, tracestate, baggage, b3, x-b3-*, x-dev-user and fail. When an upstream fails, its status is the hop's;
502 stands for one that does not answer, 504 for one that takes too long.

Settings of this application:
  SERVICE_NAME      must be set
  UPSTREAM_URI      URLs to call, comma separated, in order; empty for the last hop
  UPSTREAM_ORDER    serial (the default): one after the other, up to the first that fails; parallel: all at the same time
  UPSTREAM_TIMEOUT  for all upstreams together (15s)
  DROP_HEADER       headers that are not passed on, comma separated: a defect. x-b3-* drops all that begin so
  PROXY             env: call through http_proxy, except for no_proxy and loopback addresses; none (the default): directly
`

const timeHelp = `An ordinary service outside the mesh: / answers the current time (RFC 3339, UTC); a JSON object with "Accept: application/json".
`

const echoHelp = `Answers any request with a JSON object of what arrived: method, URI, host, headers and peer address.
`

const grpcEchoHelp = `Echoes by gRPC (HTTP/2 without TLS): /meshtest.fixture.v1.Echo/Say takes a google.protobuf.StringValue and answers with one,

  frontend-v1 -> greeter-canary -> hello

directly or by way of the next service. It answers gRPC's health checks too, and /healthz by HTTP. A call that fails as configured is answered with the HTTP status 200 and the status of
gRPC that stands for ERROR_STATUS: UNAVAILABLE for 503, DEADLINE_EXCEEDED for 504, INTERNAL for 500. The next service's failure is the call's. Passed on: x-request-id, traceparent,
tracestate, baggage, b3, x-b3-* and x-dev-user.

Settings of this application:
  SERVICE_NAME      must be set
  UPSTREAM_URI      the next service, such as http://greeter:9090 (none)
  UPSTREAM_TIMEOUT  for its answer (15s)
`

const databaseHelp = `A database that speaks Redis's protocol over TCP. Where redis-server is installed the process becomes it, and keeps nothing on disk; elsewhere it serves PING, ECHO, GET, SET, DEL, INCR and
QUIT from memory, with the same bytes.

Settings:
  HOST, PORT        where to listen (127.0.0.1, 8080)
  SERVICE_NAME      name (database), and
  SERVICE_VERSION   version (v1), for the log
  DATABASE_ENGINE   auto (the default), redis or own
`

const visitsHelp = `Counts in a database (INCR visits) how often it is asked, and answers with the number; 502 when the database does not.

Settings of this application:
  DATABASE          address of the database, such as database:6379; must be set
  DATABASE_TIMEOUT  for its answer (5s)
  CONNECTIONS       kept (the default): used again; fresh: one for each request
`

const productpageHelp = `The page about a book, at /productpage, and the same as JSON at /api/v1/products, /api/v1/products/0, /api/v1/products/0/reviews and /api/v1/products/0/ratings. It
asks details, and reviews (twice, 3 s each, as Istio's sample does). What cannot be had is said on the page, which is 200 all the same. Who signs in gets a cookie, and the header
end-user on what is asked for them.

Settings of this application:
  DETAILS_URL       http://DETAILS_HOSTNAME:DETAILS_SERVICE_PORT (details, 9080), likewise
  REVIEWS_URL       and
  RATINGS_URL
` + bookinfoHelp

const detailsHelp = `The facts about the book, as JSON at /details/0.
`

const reviewsHelp = `What readers think of the book, as JSON at /reviews/0. Version v1 has no stars; v2 has black ones and v3 red ones, which they ask ratings for.

Settings of this application:
  RATINGS_URL       http://RATINGS_HOSTNAME:RATINGS_SERVICE_PORT (ratings, 9080)
  ENABLE_RATINGS    true or false: whether there are stars (true for v2 and v3)
  STAR_COLOR        (v3: red, else black). It asks for black stars for 10 s, for others 2.5 s, as Istio's sample does
  HOSTNAME          name in the answers (the service's), and
  CLUSTER_NAME      name of its cluster
` + bookinfoHelp

const ratingsHelp = `The stars of the book, as JSON at /ratings/0. A POST there replaces them in this process.
`

const bookinfoHelp = `  SERVICES_DOMAIN   appended to the names of hosts
  DROP_HEADER       headers that are not passed on, comma separated: a defect
`

const sharedHelp = `Settings of every application (default):
  HOST, PORT        where to listen (127.0.0.1, 8080); PORT=0 lets the system choose
  SERVICE_NAME      name (the application's), and
  SERVICE_VERSION   version (v1) that sign the answers
  SEED              of all draws (0). Which requests fail and how long they take follows from it, the name, the version, the request's x-request-id
                    and, for a retry, its x-envoy-attempt-count
  LATENCY_MEDIAN    own latency of a request (0s)
  LATENCY_SIGMA     of its logarithm: lognormal latency (0: constant)
  LATENCY_FACTOR    multiplies the latency (1)
  READY_DELAY       not ready before: /healthz, and everything else, answers 503 (0s)
  SLOW_START        after it is ready the latency is multiplied, by less and less for this long (0s), beginning with
  SLOW_START_FACTOR (10)
  ERROR_RATE        share of the requests, 0 to 1, that fail (0), with
  ERROR_STATUS      status 400 to 599 (500)
  CRASH_AFTER       exits with code 3 after so many answers (0: never)
  SICK_AFTER        falls sick after so many answers (0: never), once: answers 503 to everything, /healthz too,
  SICK_FOR          for so long
  CRASHABLE         true: POST /crash, or GET /crash with the header crash: now, ends the process at once with code 1, unanswered (false)
  LEAK              memory that each request leaves behind: 4096, 64KiB, 1MiB (0)

/healthz answers 200 when the service is ready, else 503. SIGTERM lets requests in flight finish, for at most 5 s.
Exit codes: 0 stopped as asked, 1 could not serve or CRASHABLE, 2 wrong usage or settings (all mistakes are told at once), 3 crashed as configured.
`
