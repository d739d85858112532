import flagsmith from "@flagsmith/flagsmith";

await flagsmith.init({
  environmentID: "<key>",
  api: "https://flagsmith.example/api/v1/",
  enableEvents: true,
  eventProcessorConfig: { eventsApiUrl: "https://flagledger.example/" },
});
flagsmith.trackExposureEvent("checkout", { identifier: "user_123", value: "variant_a", traits: { plan: "pro" } });
