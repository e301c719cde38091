import assert from "node:assert/strict";
import { test } from "node:test";
import { createAuth } from "../../src/parley/widget/auth.js";
import { answers, problem, settle, store } from "./doubles.js";

let serial = 0;
const tokens = (id, expires_in = 900) => {
  serial += 1;
  return { access_token: `a${serial}`, refresh_token: `r${serial}`, expires_in, user: { id, name: id, is_guest: true } };
};
const jwt = (sub) => `x.${Buffer.from(JSON.stringify({ sub })).toString("base64url")}.y`;
const begin = (routes, options = {}) => {
  const http = answers({
    "POST /auth/guest": () => tokens("guest"),
    "POST /auth/identity": ({ body }) => tokens(`user of ${body.token}`),
    "POST /auth/refresh": () => tokens("guest"),
    "POST /auth/logout": () => new Response(null, { status: 204 }),
    ...routes,
  });
  const auth = createAuth({ origin: "https://chat.example", siteKey: "pk_1", fetch: http.fetch, locks: null, ...options });
  return { auth, http };
};

test("a guest signs in once, however many ask", async () => {
  const { auth, http } = begin();
  const [one, other] = await Promise.all([auth.token(), auth.token()]);
  assert.equal(one, other);
  assert.equal(await auth.token(), one);
  assert.deepEqual(http.asked.map(({ path, body }) => [path, body]), [["/auth/guest", { site_key: "pk_1" }]]);
  assert.equal(auth.user.id, "guest");
});

test("a session outlives a reload", async () => {
  const storage = store();
  const first = await begin({}, { storage }).auth.token();
  const { auth, http } = begin({}, { storage });
  assert.equal(await auth.token(), first);
  assert.equal(http.asked.length, 0);
});

test("what was refused, or ends soon, is renewed; what another tab renewed is taken", async () => {
  const storage = store();
  const { auth, http } = begin({ "POST /auth/guest": () => tokens("guest", 20) }, { storage });
  await auth.token();
  const second = await auth.token();
  assert.deepEqual(http.of("/auth/refresh").map(({ body }) => body.refresh_token.slice(0, 1)), ["r"]);
  const third = await auth.token(true);
  assert.notEqual(third, second);
  const held = JSON.parse(storage.kept.get("parley:pk_1:session"));
  storage.setItem("parley:pk_1:session", JSON.stringify({ ...held, access: "of another tab" }));
  assert.equal(await auth.token(true), "of another tab");
});

test("a session that cannot be renewed begins anew, but not while the server is away", async () => {
  let status = 503;
  const { auth, http } = begin({ "POST /auth/refresh": () => problem(status, "token_revoked") });
  await auth.token();
  await assert.rejects(auth.token(true), { move: "come_back" });
  status = 401;
  await auth.token(true);
  assert.equal(http.of("/auth/guest").length, 2);
});

test("of two tabs that renew at once both go on as the one guest", async () => {
  const storage = store();
  await begin({ "POST /auth/guest": () => tokens("guest", 0) }, { storage }).auth.token();
  let answer;
  const won = begin({ "POST /auth/refresh": () => new Promise((done) => (answer = done)) }, { storage });
  const lost = begin({ "POST /auth/refresh": () => problem(401, "refresh_superseded") }, { storage });
  const both = [won.auth.token(), lost.auth.token()];
  await settle();
  assert.equal(lost.http.asked.length, 1);
  const renewed = tokens("guest");
  answer(renewed);
  assert.deepEqual(await Promise.all(both), [renewed.access_token, renewed.access_token]);
  assert.equal(lost.http.asked.length, 1);
  assert.equal(JSON.parse(storage.kept.get("parley:pk_1:session")).refresh, renewed.refresh_token);
});

test("where the tab that won is gone, the session is over soon", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e12 });
  const { auth, http } = begin({ "POST /auth/refresh": () => problem(401, "refresh_superseded") }, { storage: store() });
  await auth.token();
  const signing = auth.token(true);
  const wait = async (ms) => {
    for (let waited = 0; waited < ms; waited += 100) {
      await settle();
      t.mock.timers.tick(100);
    }
  };
  await wait(2500);
  assert.equal(http.of("/auth/guest").length, 1);
  await wait(1000);
  await signing;
  assert.equal(http.of("/auth/guest").length, 2);
});

test("a guest comes along when it becomes a user", async () => {
  const { auth, http } = begin();
  const guest = await auth.token();
  let changes = 0;
  auth.addEventListener("change", () => (changes += 1));
  auth.identify(() => jwt("ada"));
  await auth.token();
  assert.equal(http.of("/auth/identity")[0].headers.Authorization, `Bearer ${guest}`);
  assert.deepEqual(http.of("/auth/identity")[0].body, { site_key: "pk_1", token: jwt("ada") });
  assert.equal(changes, 1);
});

test("a guest that is not known any more does not keep the user out", async () => {
  const storage = store();
  await begin({}, { storage }).auth.token();
  const identity = ({ headers }) => (headers.Authorization ? problem(401, "token_revoked") : tokens("ada"));
  const { auth } = begin({ "POST /auth/identity": identity }, { storage, identity: jwt("ada") });
  await auth.token();
  assert.equal(auth.user.id, "ada");
});

test("a guest whose token has run out comes along all the same", async () => {
  const storage = store();
  await begin({ "POST /auth/guest": () => tokens("guest", 0) }, { storage }).auth.token();
  const { auth, http } = begin({}, { storage, identity: jwt("ada") });
  await auth.token();
  assert.deepEqual(http.asked.map(({ path }) => path), ["/auth/refresh", "/auth/identity"]);
  assert.match(http.of("/auth/identity")[0].headers.Authorization, /^Bearer a\d+$/);
  const over = begin({ "POST /auth/refresh": () => problem(401, "token_revoked") }, { storage, identity: jwt("bob") });
  storage.setItem("parley:pk_1:session", JSON.stringify({ ...JSON.parse(storage.kept.get("parley:pk_1:session")), subject: null, expiresAt: 0 }));
  await over.auth.token();
  assert.equal(over.http.of("/auth/identity")[0].headers.Authorization, undefined);
});

test("who is renamed while signing in is signed in as the last one", async () => {
  let release;
  const held = new Promise((done) => (release = done));
  const { auth, http } = begin({ "POST /auth/guest": async () => (await held, tokens("guest")) });
  const first = auth.token();
  auth.identify(jwt("ada"));
  const [second, third] = [auth.token(), auth.token()];
  release();
  await Promise.all([first, second, third]);
  assert.equal(await auth.token(), await second);
  assert.equal(auth.user.id, `user of ${jwt("ada")}`);
});

test("another identity does not take the session that is stored, and brings nothing along", async () => {
  const storage = store();
  await begin({}, { storage, identity: jwt("ada") }).auth.token();
  const same = begin({}, { storage, identity: jwt("ada") });
  await same.auth.token();
  assert.equal(same.http.asked.length, 0);
  const { auth, http } = begin({}, { storage, identity: jwt("bob") });
  await auth.token();
  assert.equal(http.of("/auth/identity")[0].headers.Authorization, undefined);
  const guest = begin({}, { storage });
  await guest.auth.token();
  assert.equal(guest.http.of("/auth/guest").length, 1);
});

test("what only the page can mend is signed_out", async () => {
  for (const status of [401, 403, 422]) {
    const { auth } = begin({ "POST /auth/guest": () => problem(status, "site_refused") });
    await assert.rejects(auth.token(), { code: "signed_out", move: "stay_away" });
  }
});

test("a reset ends the session and forgets it", async () => {
  const storage = store();
  const { auth, http } = begin({}, { storage });
  const token = await auth.token();
  await auth.reset();
  assert.equal(http.of("/auth/logout")[0].headers.Authorization, `Bearer ${token}`);
  assert.equal(storage.kept.size, 0);
  assert.equal(auth.user, null);
});

test("a broken store is none", async () => {
  const broken = { getItem: () => "{", setItem: () => { throw new Error("full"); }, removeItem: () => { throw new Error("no"); } };
  const { auth } = begin({}, { storage: broken });
  await auth.token();
  await auth.reset();
});
