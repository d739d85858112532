import flagsmith from "@flagsmith/flagsmith";

await flagsmith.init({
  environmentID: "<key>",
  api: "https://flags.example/api/v1/",
  enableAnalytics: true,
});
