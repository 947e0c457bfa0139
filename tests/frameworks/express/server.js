// An Express app: a form, redirects, pages with and without Cache-Control, and files. TRUST_PROXY sets "trust proxy".

const express = require("express");

const app = express();
if (process.env.TRUST_PROXY) app.set("trust proxy", JSON.parse(process.env.TRUST_PROXY));
app.use(express.urlencoded({ extended: false }));

app.get("/form", (request, response) => response.send('<form method="post"><input name="name"></form>'));
app.post("/form", (request, response) =>
  response.redirect(303, `${request.protocol}://${request.get("host")}/thanks/${request.body.name}`),
);
app.get("/thanks/:name", (request, response) => response.send(`thanks, ${request.params.name}`));
app.get("/plain", (request, response) => response.send("<h1>plain</h1>"));
app.get("/public", (request, response) => {
  response.set("Cache-Control", "public, max-age=60");
  response.send("<h1>public</h1>");
});
app.get("/session", (request, response) => {
  response.cookie("sid", "a visitor's");
  response.send("<h1>yours</h1>");
});
app.get("/seen", (request, response) =>
  response.json({ host: request.hostname, secure: request.secure, ip: request.ip }),
);
app.use("/files", express.static(__dirname, process.env.MAX_AGE ? { maxAge: process.env.MAX_AGE } : {}));

const server = app.listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
