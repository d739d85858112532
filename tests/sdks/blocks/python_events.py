from flagsmith import Flagsmith
from flagsmith.analytics import EventProcessorConfig

client = Flagsmith(
    environment_key="<key>",
    api_url="https://flagsmith.example/api/v1/",
    enable_events=True,
    event_processor_config=EventProcessorConfig(events_api_url="https://flagledger.example/"),
)
client.track_exposure_event("checkout", identifier="user_123", value="variant_a", traits={"plan": "pro"})
