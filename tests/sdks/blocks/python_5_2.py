from flagsmith import Flagsmith
from flagsmith.analytics import PipelineAnalyticsConfig

client = Flagsmith(
    environment_key="<key>",
    api_url="https://flagsmith.example/api/v1/",
    pipeline_analytics_config=PipelineAnalyticsConfig(analytics_server_url="https://flagledger.example/"),
)
