from flagsmith import Flagsmith

client = Flagsmith(
    environment_key="<key>",
    api_url="https://flagsmith.example/api/v1/",
    enable_analytics=True,
    analytics_url="https://flagledger.example/api/v1/analytics/flags/",
)
