import { Flagsmith } from "flagsmith-nodejs";

const client = new Flagsmith({
  environmentKey: "<key>",
  apiUrl: "https://flags.example/api/v1/",
  enableAnalytics: true,
});
