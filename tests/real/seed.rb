# Fills an empty Redmine: the default data, the REST API switched on, one project with issues, an administrator and a
# bot that may do no more than its documentation asks for. Prints what the tests need to know as one line of JSON.
require 'json'

Redmine::DefaultData::Loader.load('en')
Setting.rest_api_enabled = '1'
Setting.login_required = '1'
Setting.text_formatting = 'markdown'

def key_of(user)
  Token.create!(:user => user, :action => 'api').value
end

role = Role.create!(:name => 'Bot', :permissions => [:view_issues, :add_issues], :issues_visibility => 'all')
bot = User.new(:firstname => 'Issue', :lastname => 'Bot', :mail => 'bot@example.org', :language => 'en')
bot.login = 'issue-bot'
bot.password = bot.password_confirmation = SecureRandom.hex(20)
bot.save!

event_field = IssueCustomField.create!(
  :name => 'Event ID', :field_format => 'string', :is_for_all => true, :trackers => Tracker.all.to_a
)
# Two of the labels that the tests use are among the values of the list, a third is not.
labels_field = IssueCustomField.create!(
  :name => 'Labels', :field_format => 'list', :multiple => true, :possible_values => %w[disk ops],
  :is_for_all => true, :trackers => Tracker.all.to_a
)
%w[web kills].each do |name|
  project = Project.create!(
    :name => name.capitalize, :identifier => name, :is_public => false,
    :enabled_module_names => ['issue_tracking'], :trackers => Tracker.sorted.to_a
  )
  Member.create!(:user => bot, :project => project, :roles => [role])
end

# Three that take no issue, each for a reason of its own.
{'shut' => %w[issue_tracking], 'archived' => %w[issue_tracking], 'wiki-only' => %w[wiki]}.each do |name, modules|
  project = Project.create!(:name => name.capitalize, :identifier => name, :enabled_module_names => modules)
  Member.create!(:user => bot, :project => project, :roles => [role])
end
Project.find_by!(:identifier => 'shut').close
Project.find_by!(:identifier => 'archived').archive

# Redmine asks an administrator to change the password that everybody knows, and refuses the API until then.
admin = User.where(:admin => true).first
admin.update!(:must_change_passwd => false)
puts 'SEED ' + JSON.generate(
  :version => Redmine::VERSION.to_s, :bot => bot.id, :bot_key => key_of(bot), :admin_key => key_of(admin),
  :event_field => event_field.id, :labels_field => labels_field.id
)
